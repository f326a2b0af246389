"""Three networks that are written once, for TensorFlow to export and for JAX to compile itself.

Their weights are made of a seed, so that both compute the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

BATCHES = (1, 8, 32)


class TensorFlowOps:
    """Operations as TensorFlow spells them."""

    def __init__(self) -> None:
        import tensorflow as tf

        self._tf = tf
        self.constant, self.matmul, self.relu = tf.constant, tf.matmul, tf.nn.relu
        self.softmax, self.tanh, self.sqrt = tf.nn.softmax, tf.tanh, tf.sqrt
        self.reshape, self.transpose, self.mean = tf.reshape, tf.transpose, tf.reduce_mean

    def convolution(self, x: Any, kernel: Any, stride: int) -> Any:
        return self._tf.nn.conv2d(x, kernel, stride, "SAME")

    def max_pool(self, x: Any) -> Any:
        return self._tf.nn.max_pool2d(x, 3, 2, "SAME")


class JaxOps:
    """The same as JAX spells them."""

    def __init__(self) -> None:
        import jax
        import jax.numpy as jnp

        self._jax, self._jnp = jax, jnp
        self.constant, self.matmul, self.relu = jnp.asarray, jnp.matmul, jax.nn.relu
        self.softmax, self.tanh, self.sqrt = jax.nn.softmax, jnp.tanh, jnp.sqrt
        self.reshape, self.transpose = jnp.reshape, jnp.transpose

    def mean(self, x: Any, axis: Any, keepdims: bool = False) -> Any:
        return self._jnp.mean(x, axis=axis, keepdims=keepdims)

    def convolution(self, x: Any, kernel: Any, stride: int) -> Any:
        return self._jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def max_pool(self, x: Any) -> Any:
        return self._jax.lax.reduce_window(x, -np.inf, self._jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")


class _Weights:
    def __init__(self, ops: Any, seed: int) -> None:
        self._ops = ops
        self._random = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> Any:
        scale = np.sqrt(2.0 / np.prod(shape[:-1]))
        return self._ops.constant((self._random.normal(size=shape) * scale).astype(np.float32))


def perceptron(ops: Any) -> Callable:
    make = _Weights(ops, 1)
    layers = [make(784, 1024), make(1024, 1024), make(1024, 10)]

    def model(x: Any) -> Any:
        for weights in layers[:-1]:
            x = ops.relu(ops.matmul(x, weights))
        return ops.matmul(x, layers[-1])

    return model


def transformer(ops: Any) -> Callable:
    """Six layers of encoder, 512 wide, over 128 embedded tokens."""
    width, heads, length = 512, 8, 128
    make = _Weights(ops, 2)
    layers = [
        [make(width, width) for _ in range(4)] + [make(width, 4 * width), make(4 * width, width)]
        for _ in range(6)
    ]

    def normalise(x: Any) -> Any:
        centred = x - ops.mean(x, -1, keepdims=True)
        return centred / ops.sqrt(ops.mean(centred * centred, -1, keepdims=True) + 1e-5)

    def split(x: Any) -> Any:
        return ops.transpose(ops.reshape(x, (-1, length, heads, width // heads)), (0, 2, 1, 3))

    def model(x: Any) -> Any:
        for query, key, value, out, up, down in layers:
            q, k, v = (split(ops.matmul(x, weights)) for weights in (query, key, value))
            scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / np.float32(np.sqrt(width // heads))
            attended = ops.transpose(ops.matmul(ops.softmax(scores), v), (0, 2, 1, 3))
            x = normalise(x + ops.matmul(ops.reshape(attended, (-1, length, width)), out))
            x = normalise(x + ops.matmul(ops.relu(ops.matmul(x, up)), down))
        return x

    return model


def resnet50(ops: Any) -> Callable:
    """ResNet50 with its batch normalisation folded into the convolutions."""
    make = _Weights(ops, 3)
    stem = make(7, 7, 3, 64)
    blocks = []
    channels = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        inner = 64 << stage
        for block in range(count):
            stride = 2 if block == 0 and stage > 0 else 1
            shortcut = make(1, 1, channels, 4 * inner) if block == 0 else None
            # Small, so that sums do not grow from block to block.
            last = make(1, 1, inner, 4 * inner) * np.float32(0.2)
            blocks.append((make(1, 1, channels, inner), make(3, 3, inner, inner), last, shortcut, stride))
            channels = 4 * inner
    head = make(channels, 1000)

    def model(x: Any) -> Any:
        x = ops.max_pool(ops.relu(ops.convolution(x, stem, 2)))
        for first, second, third, shortcut, stride in blocks:
            y = ops.relu(ops.convolution(x, first, 1))
            y = ops.relu(ops.convolution(y, second, stride))
            y = ops.convolution(y, third, 1)
            x = ops.relu(y + (x if shortcut is None else ops.convolution(x, shortcut, stride)))
        return ops.matmul(ops.mean(x, (1, 2)), head)

    return model


# How to make each, and the shape of one row.
MODELS: dict[str, tuple[Callable[[Any], Callable], tuple[int, ...]]] = {
    "perceptron": (perceptron, (784,)),
    "transformer": (transformer, (128, 512)),
    "resnet50": (resnet50, (224, 224, 3)),
}
