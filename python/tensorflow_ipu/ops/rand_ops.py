"""Random operations."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["dropout"]


def dropout(
    x: Any,
    rate: float = 0.5,
    noise_shape: Any = None,
    seed: Any = None,
    name: str | None = None,
    **ignored: Any,
) -> tf.Tensor:
    """With a rate of 0 the same tensor.

    Raises:
      ValueError: the rate is not in the range [0, 1).
      NotImplementedError: it is larger than 0.
    """
    del noise_shape, seed, ignored
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"The rate must be in the range [0, 1), but was {rate}.")
    if rate > 0.0:
        raise NotImplementedError(
            "`ipu.rand_ops.dropout` with a `rate` above 0 is for training, and this package is for inference."
            " Leave it out of the exported function, or pass a rate of 0."
        )
    return tf.identity(x, name)
