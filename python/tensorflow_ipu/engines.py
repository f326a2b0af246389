"""Engines that are started outside of a graph: by eager code, and by an export for the function it returns.

In a graph the kernel that starts an engine keeps it. Eager TensorFlow keeps kernels too, but for as long as it likes;
here an engine's life is in our hands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from tensorflow_ipu._runtime import native, ops
from tensorflow_ipu.errors import native_error

# Engines that run until they are stopped, by name.
_kept: dict[str, Any] = {}


def start_engine(
    inputs: Sequence[tf.Tensor], filename: str, engine_name: str, timeout_us: int
) -> tf.Tensor:
    """Starts an engine, or attaches to the one of that name, which then runs until it is stopped or taken.

    Returns:
      The anchor that calls depend on, an int32 scalar.

    Raises:
      tf.errors.OpError: as the op ApplicationRuntime.
    """
    anchor = ops.application_runtime(
        inputs=inputs, filename=filename, engine_name=engine_name, timeout_us=timeout_us
    )
    _kept[engine_name] = native.keep_engine(engine_name)
    _forget_eager_kernels()
    return anchor


def take_engine(engine_name: str) -> Any:
    """What keeps the engine that start_engine() has started: it stops when the last of these is gone."""
    handle = native.keep_engine(engine_name)
    _kept.pop(engine_name, None)
    return handle


def stop_engine(engine_name: str) -> None:
    """Stops an engine now.

    Raises:
      tf.errors.NotFoundError: it does not run.
    """
    _kept.pop(engine_name, None)
    _forget_eager_kernels()
    try:
        native.stop_engine(engine_name)
    except native.StatusError as error:
        raise native_error(error) from None


def _forget_eager_kernels() -> None:
    """Makes eager TensorFlow drop the kernels it has cached, and with them their hold on engines."""
    context.context().clear_kernel_cache()
