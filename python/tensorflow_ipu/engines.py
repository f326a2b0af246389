"""Engines that are started outside of a graph: by eager code, and by an export for the function it returns.

In a graph the kernel that starts an engine keeps it. Eager TensorFlow caches the kernels of ops for as long
as it likes; here an engine's life is in our hands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tensorflow_ipu._runtime import native, ops
from tensorflow_ipu.errors import native_error, plain_error

# Engines that run until they are stopped, by name.
_kept: dict[str, Any] = {}


def start_engine(
    inputs: Sequence[tf.Tensor], filename: str, engine_name: str, timeout_us: int
) -> tuple[tf.Tensor, Any]:
    """Starts an engine, or attaches to the one of that name.

    Returns:
      The anchor that calls depend on, an int32 scalar; and what keeps the engine: it stops when the last of
      those that keep it is gone.

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
        # By its concrete function: a call of the function itself counts as a retracing of all made here.
        anchor = start.get_concrete_function(*inputs)(*inputs)
        return anchor, native.keep_engine(engine_name)
    except tf.errors.OpError as error:
        raise plain_error(error) from None
    except native.StatusError as error:  # stopped by somebody else meanwhile
        raise native_error(error) from None


def start_lasting_engine(
    inputs: Sequence[tf.Tensor], filename: str, engine_name: str, timeout_us: int
) -> tf.Tensor:
    """As start_engine(), for an engine that runs until it is stopped. Returns the anchor."""
    anchor, _kept[engine_name] = start_engine(inputs, filename, engine_name, timeout_us)
    return anchor


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
