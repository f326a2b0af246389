"""Looking rows of tables up."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tensorflow_ipu.integers import as_integer
from tensorflow_ipu.not_provided import stand_in

__all__ = ["embedding_lookup"]


def embedding_lookup(
    params: Any,
    ids: Any,
    name: str | None = None,
    serialization_factor: int = 1,
    indices_are_sorted: bool = False,
) -> tf.Tensor:
    """The rows `ids` of the table `params`.

    Args:
      serialization_factor: into how many look-ups it may be broken; it divides the number of rows, and
        changes nothing on the emulator.
      indices_are_sorted: accepted.

    Raises:
      ValueError: the factor does not divide the number of rows.
    """
    del indices_are_sorted
    factor = as_integer("serialization_factor", serialization_factor, 1)
    table = tf.convert_to_tensor(params)
    if table.shape[0] is not None and table.shape[0] % factor:
        raise ValueError(
            f"The serialization_factor ({factor}) must divide the size of the 0th dimension of params"
            f" ({table.shape[0]})."
        )
    return tf.gather(table, ids, name=name)


def __getattr__(name: str) -> Any:
    return stand_in("embedding_ops", name)
