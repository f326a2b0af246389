"""Products and sums."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tensorflow_ipu.integers import as_integer

__all__ = ["segment_sum", "serialized_matmul"]

_DIMENSIONS = ("a_columns", "a_rows_b_columns", "b_rows")


def serialized_matmul(
    a: Any,
    b: Any,
    serialization_factor: int,
    serialization_dimension: str,
    transpose_a: bool = False,
    transpose_b: bool = False,
    name: str | None = None,
) -> tf.Tensor:
    """The product of a and b. The parts that it may be broken into are checked, and change nothing on the
    emulator.

    Raises:
      ValueError: there is no such dimension, or the factor does not divide it.
    """
    factor = as_integer("serialization_factor", serialization_factor, 1)
    left, right = tf.convert_to_tensor(a), tf.convert_to_tensor(b)
    if serialization_dimension not in _DIMENSIONS:
        raise ValueError(
            f"Invalid serialization_dimension={serialization_dimension!r}, expected one of {_DIMENSIONS}."
        )
    size = {
        "a_columns": left.shape[-1 if transpose_a else -2],
        "a_rows_b_columns": left.shape[-2 if transpose_a else -1],
        "b_rows": right.shape[-2 if transpose_b else -1],
    }[serialization_dimension]
    if size is not None and size % factor:
        raise ValueError(
            f"Expected 'serialization_factor' ({factor}) to divide the dimension '{serialization_dimension}'"
            f" ({size})."
        )
    return tf.linalg.matmul(left, right, transpose_a=transpose_a, transpose_b=transpose_b, name=name)


def segment_sum(data: Any, segment_ids: Any, num_segments: int, name: str | None = None) -> tf.Tensor:
    """Sums of the rows of each segment."""
    return tf.math.unsorted_segment_sum(data, segment_ids, as_integer("num_segments", num_segments, 1), name)
