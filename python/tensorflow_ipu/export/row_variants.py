"""The same program for fewer rows than its batch, so that a step with few rows costs little."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tensorflow_ipu.export.row_independence import differing_rows
from tensorflow_ipu.lowering import LoweredFunction, TracedFunction
from tensorflow_ipu.program import RowVariant

# From feeds of some number of rows to the stages, traced and lowered for it.
LowerStages = Callable[[Sequence[tf.TensorSpec]], tuple[list[TracedFunction], list[LoweredFunction]]]


def row_counts(smaller_batches: Sequence[int] | None, batch: int) -> list[int]:
    """What was asked for, in order, or 1, 4, 16, ... rows below the batch.

    Raises:
      ValueError: a number is not between 1 and `batch` - 1.
    """
    if smaller_batches is None:
        return [4**power for power in range(batch.bit_length()) if 4**power < batch]
    for rows in smaller_batches:
        if rows < 1 or rows >= batch:
            raise ValueError(
                f"`smaller_batches` must be numbers of rows between 1 and {batch - 1}, below the batch of "
                f"{batch}, but one is {rows}."
            )
    return sorted(set(smaller_batches))


def make_variants(
    counts: Sequence[int],
    lower: LowerStages,
    feeds: Sequence[tf.TensorSpec],
    traced: Sequence[TracedFunction],
    lowered: Sequence[LoweredFunction],
) -> tuple[list[RowVariant], str]:
    """A variant for each number of rows, or none of them and the reason.

    A function may have its batch written into it, as a shape or as a number that it computes with. So the
    results of every variant are compared with those of the whole batch; where one cannot be made, or has
    other results, there is none.

    Raises:
      TrialError: the function cannot be tried.
    """
    variants = []
    for rows in counts:
        specs = [tf.TensorSpec([rows, *spec.shape[1:]], spec.dtype, spec.name) for spec in feeds]
        try:
            smaller, compiled = lower(specs)
        except Exception as error:  # whatever a user's function says of a shape that it was not made for
            return (
                [],
                f"cannot be traced for {rows} rows: {str(error).splitlines()[0] if str(error) else error!r}",
            )
        for whole, part in zip(lowered, compiled, strict=True):
            if [spec.dtype for spec in whole.results] != [spec.dtype for spec in part.results]:
                return [], f"has results of other types for {rows} rows"
        if any(not spec.shape.rank or spec.shape[0] != rows for spec in compiled[-1].results):
            return [], f"returns another number of rows for {rows} rows"
        positions = differing_rows(traced, smaller, feeds, rows)
        if positions:
            listing = ", ".join(map(str, positions))
            return [], f"returns other values for {rows} rows (result {listing}): it depends on the batch"
        variants.append(RowVariant(rows, [function.hlo for function in compiled]))
    return variants, ""
