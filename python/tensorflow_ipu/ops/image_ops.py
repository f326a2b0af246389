"""Images."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["normalise_image"]


def normalise_image(
    image: Any, channel_offsets: Any, channel_scales: Any, scale: float = 1, name: str | None = None
) -> tf.Tensor:
    """(image * scale - channel_offsets) * channel_scales, and a fourth channel of zeros.

    Args:
      image: [..., 3] of uint8, float16 or float32.
      channel_offsets, channel_scales: [3].

    Returns:
      [..., 4] of the image's dtype; float16 for uint8.

    Raises:
      TypeError: the image is of another dtype.
    """
    pixels = tf.convert_to_tensor(image)
    if pixels.dtype not in (tf.float16, tf.float32, tf.uint8):
        raise TypeError(
            f"The input `image` must be either float16, float32 or uint8, but is {pixels.dtype.name}."
        )
    dtype = tf.float16 if pixels.dtype == tf.uint8 else pixels.dtype
    offsets, scales = (
        tf.cast(tf.convert_to_tensor(part), dtype) for part in (channel_offsets, channel_scales)
    )
    normal = (tf.cast(pixels, dtype) * tf.cast(scale, dtype) - offsets) * scales
    return tf.identity(tf.pad(normal, [[0, 0]] * (normal.shape.rank - 1) + [[0, 1]]), name)
