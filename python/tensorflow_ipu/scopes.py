"""Scopes that place operations on the IPU. Programs that run in-process run on the host, so most change
nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

__all__ = ["ipu_jit_scope", "ipu_scope", "ipu_shard", "partials_type", "stochastic_rounding"]


@contextlib.contextmanager
def ipu_scope(device: str) -> Iterator[None]:
    """Where `ipu_compiler.compile` is called for a TensorFlow 1 program. Variables made in it are resource
    variables.

    Args:
      device: "/device:IPU:0"; programs that run in-process run on the host.

    Raises:
      ValueError: it names no IPU.
    """
    if not isinstance(device, str) or "IPU" not in device.upper():
        raise ValueError(f"ipu_scope() takes an IPU such as '/device:IPU:0', but {device!r} was given.")
    if tf.executing_eagerly():
        yield
        return
    scope = tf.compat.v1.get_variable_scope()
    with tf.compat.v1.variable_scope(scope, use_resource=True), tf.device("/device:CPU:0"):
        yield


@contextlib.contextmanager
def ipu_jit_scope(ipu_scope: Any) -> Iterator[None]:
    """Accepted: operations are compiled when a program is compiled."""
    del ipu_scope
    yield


@contextlib.contextmanager
def ipu_shard(index: Any) -> Iterator[None]:
    """Accepted: a program is spread over several IPUs by pipeline stages only."""
    del index
    yield


@contextlib.contextmanager
def stochastic_rounding(override: bool) -> Iterator[None]:
    """Accepted: the emulator rounds to nearest."""
    del override
    yield


@contextlib.contextmanager
def partials_type(override_type: Any) -> Iterator[None]:
    """Accepted: the emulator sums float16 products in float32.

    Raises:
      ValueError: it is neither float16 nor float32.
    """
    dtype = tf.as_dtype(override_type)
    if dtype not in (tf.float16, tf.float32):
        raise ValueError(f"Only support float16, float32, provided {dtype.name}.")
    yield
