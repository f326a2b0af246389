"""Engines that are started outside of a graph: by eager code, and by an export for the function it returns.

In a graph the kernel that starts an engine keeps it. Eager TensorFlow caches the kernels of ops for as long as it
likes; here an engine's life is in our hands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tensorflow_ipu._runtime import native, ops
from tensorflow_ipu.errors import native_error, plain_error

# Engines that run until they are stopped, by name.
_kept: dict[str, Any] = {}


def start_engine(inputs: Sequence[tf.Tensor], filename: str, engine_name: str, timeout_us: int) -> tf.Tensor:
    """Starts an engine, or attaches to the one of that name, which then runs until it is stopped or taken.

    Returns:
      The anchor that calls depend on, an int32 scalar.

    Raises:
      tf.errors.OpError: as the op ApplicationRuntime.
    """

    # Kernels of a function go when the function goes.
    @tf.function(autograph=False)
    def start(*inputs: tf.Tensor) -> tf.Tensor:
        return ops.application_runtime(
            inputs=inputs, filename=filename, engine_name=engine_name, timeout_us=timeout_us
        )

    try:
        anchor = start(*inputs)
    except tf.errors.OpError as error:
        raise plain_error(error) from None
    _kept[engine_name] = native.keep_engine(engine_name)
    return anchor


def take_engine(engine_name: str) -> Any:
    """What keeps the engine that start_engine() has started: it stops when the last of these is gone."""
    return _kept.pop(engine_name)


def stop_engine(engine_name: str) -> None:
    """Stops an engine now.

    Raises:
      tf.errors.NotFoundError: it does not run.
    """
    try:
        native.stop_engine(engine_name)
    except native.StatusError as error:
        raise native_error(error) from None
    finally:
        _kept.pop(engine_name, None)
