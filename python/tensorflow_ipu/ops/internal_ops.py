"""Operations about where values lie and what they are; they change no value."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = ["fifo", "print_tensor", "remap", "remap_deduce"]


def remap(x: Any, name: str | None = None) -> tf.Tensor:
    """The same tensor: the emulator has no tiles to map it to."""
    return tf.identity(x, name)


def remap_deduce(x: Any, name: str | None = None) -> tf.Tensor:
    """See remap()."""
    return tf.identity(x, name)


def print_tensor(input: Any, name: str = "") -> Any:  # the original's name of the parameter
    """Accepted: the device prints nothing. Returns an operation that does nothing."""
    del name
    tf.convert_to_tensor(input)
    return tf.no_op()


def fifo(x: Any, depth: int, offload: bool = False, name: str | None = None) -> tf.Tensor:
    """With a depth of 0 the same tensor.

    Raises:
      NotImplementedError: the depth is larger; values of earlier steps are values of a loop here.
    """
    del offload
    if depth < 1:
        return tf.identity(x, name)
    raise NotImplementedError(
        "`ipu.internal_ops.fifo` is not provided: pass values of earlier steps on as values of"
        " `loops.repeat`."
    )
