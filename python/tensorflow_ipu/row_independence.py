"""Whether the rows of a batch seem to depend on each other, or on how many there are, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def dependent_results(
    function: Callable[[Sequence[tf.Tensor]], Sequence[tf.Tensor]], feeds: Sequence[tf.TensorSpec]
) -> list[int]:
    """Runs a function twice on the CPU, with another first row, and compares the other rows of its results.

    Args:
      function: from a list of batches to a list of results, all with the same leading dimension.
      feeds: static.

    Returns:
      Positions of results that have changed in more than the first row. Also those of functions that use
      random numbers.
    """
    values = np.random.default_rng(1)
    batches = [_random_batch(values, spec) for spec in feeds]
    changed = [batch.copy() for batch in batches]
    for batch, spec in zip(changed, feeds, strict=True):
        is_number = spec.dtype.is_floating or spec.dtype.is_complex
        batch[0] = _random_batch(values, spec)[0] if is_number else 1 - batch[0]
    first = function([tf.constant(batch) for batch in batches])
    second = function([tf.constant(batch) for batch in changed])
    return [
        position
        for position, (before, after) in enumerate(zip(first, second, strict=True))
        if not _same(before.numpy()[1:], after.numpy()[1:])
    ]


def differing_rows(
    whole: Callable[[Sequence[tf.Tensor]], Sequence[tf.Tensor]],
    part: Callable[[Sequence[tf.Tensor]], Sequence[tf.Tensor]],
    feeds: Sequence[tf.TensorSpec],
    rows: int,
) -> list[int]:
    """Runs a function of the whole batch, and its form for the first `rows`, on the CPU.

    Args:
      whole: from batches as `feeds` says to results, all with the same leading dimension.
      part: the same for `rows` rows.

    Returns:
      Positions of results in whose first rows the two differ.
    """
    values = np.random.default_rng(1)
    batches = [_random_batch(values, spec) for spec in feeds]
    expected = whole([tf.constant(batch) for batch in batches])
    found = part([tf.constant(batch[:rows]) for batch in batches])
    return [
        position
        for position, (one, other) in enumerate(zip(expected, found, strict=True))
        if not _same(one.numpy()[:rows], other.numpy())
    ]


def _random_batch(values: np.random.Generator, spec: tf.TensorSpec) -> np.ndarray:
    shape, dtype = spec.shape.as_list(), spec.dtype.as_numpy_dtype
    if spec.dtype.is_floating or spec.dtype.is_complex:
        return values.normal(size=shape).astype(dtype)
    return values.integers(0, 2, shape).astype(dtype)  # good as an index, too


def _same(before: Any, after: Any) -> bool:
    if before.dtype.kind in "biu":
        return np.array_equal(before, after)
    kind = np.complex128 if before.dtype.kind == "c" else np.float64
    # A batch may be summed in another order, as its values are others.
    return np.allclose(before.astype(kind), after.astype(kind), rtol=1e-3, atol=1e-4, equal_nan=True)
