"""Helpers of the Keras tests: both Keras packages, and the numbers of an export beside those of its model."""

import json
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_ipu import serving
from tensorflow_ipu._runtime import native

PACKAGES = [keras, tf_keras]


def package_name(package: Any) -> str:
    return package.__name__


def random_array(shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
    generator = np.random.default_rng(sum(shape))
    if dtype.startswith("int"):
        return generator.integers(0, 8, shape).astype(dtype)
    return generator.normal(size=shape).astype(dtype)


def check_export(
    model: Any, directory: str | os.PathLike, inputs: Any, tolerance: float = 1e-5, **arguments: Any
) -> dict[str, Any]:
    """Exports a model, compares with what it computes itself, and returns the executable's header."""
    run = serving.export_keras(model, os.fspath(directory), **arguments)
    expected = tf.nest.flatten(model(inputs, training=False))
    results = tf.nest.flatten(run(*tf.nest.flatten(inputs)))
    assert len(results) == len(expected)
    for result, reference in zip(results, expected, strict=True):
        assert result.dtype == reference.dtype
        assert result.shape == reference.shape
        np.testing.assert_allclose(
            tf.cast(result, tf.float64), tf.cast(reference, tf.float64), rtol=tolerance, atol=tolerance
        )
    return json.loads(native.inspect(os.path.join(directory, "assets", "executable.ipu")))


def inputs_of(directory: str | os.PathLike) -> dict[str, tf.TensorSpec]:
    """Name and spec of each input of an exported SavedModel."""
    loaded = tf.saved_model.load(os.fspath(directory))
    return loaded.signatures["serving_default"].structured_input_signature[1]


def outputs_of(directory: str | os.PathLike) -> list[str]:
    """Names of the outputs of an exported SavedModel."""
    return sorted(tf.saved_model.load(os.fspath(directory)).signatures["serving_default"].structured_outputs)
