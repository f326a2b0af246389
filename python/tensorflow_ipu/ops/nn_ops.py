"""Activations, and convolutions that belong together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tensorflow_ipu.not_provided import stand_in

__all__ = ["gelu", "hard_sigmoid", "multi_conv", "softmax", "swish"]


def gelu(x: Any, approximate: bool = True, name: str | None = None) -> tf.Tensor:
    """The Gaussian error linear unit; by a tangent unless `approximate` is False."""
    return tf.nn.gelu(x, approximate, name)


def hard_sigmoid(x: Any, name: str | None = None) -> tf.Tensor:
    """x / 5 + 1 / 2, between 0 and 1."""
    return tf.clip_by_value(0.2 * tf.convert_to_tensor(x) + 0.5, 0.0, 1.0, name)


def swish(x: Any, name: str | None = None) -> tf.Tensor:
    """x times its sigmoid."""
    return tf.identity(tf.nn.silu(x), name)


def softmax(x: Any, stable: bool = False, name: str | None = None) -> tf.Tensor:
    """Over the last dimension; `stable` is accepted, as it always is here."""
    del stable
    return tf.nn.softmax(x, name=name)


def multi_conv(func: Callable[..., Any] | None = None, options: dict[str, str] | None = None) -> Any:
    """A decorator for functions whose convolutions may run side by side; on the emulator they run in turn.

    Raises:
      TypeError: `options` is not a dictionary.
    """
    if options is not None and not isinstance(options, dict):
        raise TypeError(f"Expected the multi_conv `options` to be a `dict`, but got {options!r} instead.")

    def decorated(inner: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(inner)
        def convolutions(*args: Any) -> Any:
            return inner(*args)

        return convolutions

    return decorated if func is None else decorated(func)


def __getattr__(name: str) -> Any:
    return stand_in("nn_ops", name)
