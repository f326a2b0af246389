"""Whether the rows of a batch seem to depend on each other, or on how many there are, found by trying.

A program is run on the CPU with random values. It may refuse some (an index below the table, a division by
zero, an assertion) although it is as good as any, so several kinds of values are tried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import cancellation

from tensorflow_ipu.lowering import TracedFunction

_LONGEST_TRY_S = 60.0


class TrialError(Exception):
    """The program can be run with none of the values: nothing is known of its rows."""


@dataclass(frozen=True)
class _Values:
    """A kind of random values: whole numbers are one of two neighbours, which is good as an index, too."""

    lowest: int
    real: Callable[[np.random.Generator, list[int]], np.ndarray]

    def batch(self, source: np.random.Generator, spec: tf.TensorSpec) -> np.ndarray:
        shape, dtype = spec.shape.as_list(), spec.dtype
        if dtype.is_floating or dtype.is_complex:
            return self.real(source, shape).astype(dtype.as_numpy_dtype)
        if dtype.is_bool:
            return source.integers(0, 2, shape).astype(bool)
        return source.integers(self.lowest, self.lowest + 2, shape).astype(dtype.as_numpy_dtype)

    def other_first_row(self, source: np.random.Generator, spec: tf.TensorSpec, batch: Any) -> np.ndarray:
        changed = batch.copy()
        if spec.dtype.is_floating or spec.dtype.is_complex:
            changed[0] = self.batch(source, spec)[0]
        elif spec.dtype.is_bool:
            changed[0] = ~batch[0]
        else:
            changed[0] = 2 * self.lowest + 1 - batch[0]
        return changed


_KINDS = (
    _Values(0, lambda source, shape: source.normal(size=shape)),
    _Values(1, lambda source, shape: source.uniform(0.25, 1.0, size=shape)),
    _Values(2, lambda source, shape: source.uniform(1.0, 2.0, size=shape)),
)


def dependent_results(stages: Sequence[TracedFunction], feeds: Sequence[tf.TensorSpec]) -> list[int]:
    """Runs a program twice on the CPU, with another first row, and compares the other rows of its results.

    Args:
      stages: from batches to results, all with the same leading dimension.
      feeds: static.

    Returns:
      Positions of results that have changed in more than the first row. Also those of functions that use
      random numbers.

    Raises:
      TrialError: it cannot be tried.
    """

    def compare(values: _Values) -> list[int]:
        source = np.random.default_rng(1)
        batches = [values.batch(source, spec) for spec in feeds]
        changed = [
            values.other_first_row(source, spec, batch) for spec, batch in zip(feeds, batches, strict=True)
        ]
        pairs = zip(_run(stages, batches), _run(stages, changed), strict=True)
        return [position for position, (one, other) in enumerate(pairs) if not _same(one[1:], other[1:])]

    return _first_that_runs(compare)


def differing_rows(
    whole: Sequence[TracedFunction],
    part: Sequence[TracedFunction],
    feeds: Sequence[tf.TensorSpec],
    rows: int,
) -> list[int]:
    """Runs a program of the whole batch, and its form for the first `rows`, on the CPU.

    Args:
      whole: from batches as `feeds` says to results, all with the same leading dimension.
      part: the same for `rows` rows.

    Returns:
      Positions of results in whose first rows the two differ.

    Raises:
      TrialError: they cannot be tried.
    """

    def compare(values: _Values) -> list[int]:
        source = np.random.default_rng(1)
        batches = [values.batch(source, spec) for spec in feeds]
        pairs = zip(_run(whole, batches), _run(part, [batch[:rows] for batch in batches]), strict=True)
        return [position for position, (one, other) in enumerate(pairs) if not _same(one[:rows], other)]

    return _first_that_runs(compare)


def _first_that_runs(compare: Callable[[_Values], list[int]]) -> list[int]:
    refusals = []
    for values in _KINDS:
        try:
            return compare(values)
        except tf.errors.CancelledError:
            raise TrialError(f"it does not end within {_LONGEST_TRY_S:.0f} seconds") from None
        except tf.errors.OpError as error:
            refusals.append(error)
    raise TrialError(_first_line(refusals[0]))


def _first_line(error: tf.errors.OpError) -> str:
    """What the operation says, without the account of where it was made."""
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    account = ("File", "Graph", "Detected", "<stack traces")
    told = [line for line in lines if "node" not in line and not line.startswith(account)]
    return (told or lines or [type(error).__name__])[0]


def _run(stages: Sequence[TracedFunction], batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    manager = cancellation.CancellationManager()
    timer = threading.Timer(_LONGEST_TRY_S, manager.start_cancel)
    timer.daemon = True
    timer.start()
    try:
        tensors: Sequence[tf.Tensor] = [tf.constant(batch) for batch in batches]
        for stage in stages:
            tensors = manager.get_cancelable_function(stage.frozen)(*tensors)
        return [tensor.numpy() for tensor in tensors]
    finally:
        timer.cancel()


def _same(before: np.ndarray, after: np.ndarray) -> bool:
    if before.dtype.kind in "biu":
        return np.array_equal(before, after)
    kind = np.complex128 if before.dtype.kind == "c" else np.float64
    # A batch may be summed in another order, as its values are others.
    return np.allclose(before.astype(kind), after.astype(kind), rtol=1e-3, atol=1e-4, equal_nan=True)
