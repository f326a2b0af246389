"""Row batching: what it asks of signatures, and the variants for fewer rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import tensorflow as tf

from tensorflow_ipu.export.row_independence import dependent_results
from tensorflow_ipu.export.row_variants import LowerStages, make_variants, row_counts
from tensorflow_ipu.lowering import LoweredFunction, TracedFunction
from tensorflow_ipu.program import RowVariant

_log = logging.getLogger("tensorflow_ipu")


def batch_of(feeds: Sequence[tf.TensorSpec], name: str) -> int:
    """The number of rows that the device works on at a time."""
    for spec in feeds:
        if spec.shape.rank is None or spec.shape.rank < 1 or spec.shape[0] is None:
            raise ValueError(
                f"dynamic_batch: input '{spec.name}' of `{name}` has the shape {spec.shape}, but must have a "
                "leading dimension of known size, which is how many rows the device works on at a time."
            )
    batches = {spec.shape[0] for spec in feeds}
    if len(batches) > 1:
        listing = ", ".join(f"'{spec.name}' {spec.shape}" for spec in feeds)
        raise ValueError(
            f"dynamic_batch: the inputs of `{name}` must have the same leading dimension, but they are "
            f"{listing}."
        )
    return batches.pop()


def check_rows(results: Sequence[tf.TensorSpec], batch: int, name: str) -> None:
    """Raises ValueError when a result does not have a row for each of the batch."""
    for position, spec in enumerate(results):
        if spec.shape.rank < 1 or spec.shape[0] != batch:
            raise ValueError(
                f"dynamic_batch: result {position} of `{name}` has the shape {spec.shape}, but its leading "
                f"dimension must be that of the inputs ({batch}): each row of a result must come from the "
                "same row of the inputs."
            )


def warn_of_dependent_rows(traced: Sequence[TracedFunction], feeds: Sequence[tf.TensorSpec]) -> None:
    """Logs which results of a row depend on other rows.

    Raises:
      TrialError: the program cannot be tried.
    """
    positions = dependent_results(traced, feeds)
    if positions:
        _log.warning(
            "dynamic_batch: the rows of result %s seem to depend on other rows of the batch than their own. "
            "Requests share a batch, so one caller's rows would change another's results.",
            ", ".join(map(str, positions)),
        )


def row_variants(
    lower: LowerStages,
    feeds: Sequence[tf.TensorSpec],
    traced: Sequence[TracedFunction],
    lowered: Sequence[LoweredFunction],
    batch: int,
    smaller_batches: Sequence[int] | None,
) -> list[RowVariant]:
    """The program for the numbers of rows that were asked for, or as far as it allows it.

    Raises:
      ValueError: it does not allow what was asked for.
      TrialError: it cannot be tried.
    """
    variants, reason = make_variants(row_counts(smaller_batches, batch), lower, feeds, traced, lowered)
    if reason and smaller_batches is not None:
        raise ValueError(f"smaller_batches: the program {reason}.")
    if reason:
        _log.info("dynamic_batch: few rows cost what %d do, as the program %s.", batch, reason)
    return variants


def with_any_rows(spec: tf.TensorSpec) -> tf.TensorSpec:
    """The spec with an open leading dimension."""
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype, spec.name)


def rows_relaxed(signature: Sequence[tf.TensorSpec], batch: int | None) -> list[tf.TensorSpec]:
    """Leaves the number of rows open where the signature gives that of the device."""
    return [
        with_any_rows(spec) if batch is not None and spec.shape.rank and spec.shape[0] == batch else spec
        for spec in signature
    ]
