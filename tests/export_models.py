"""Helpers of the export tests: export a function, and load the SavedModel as a client of it would."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_ipu import serving


def serve(directory: str | os.PathLike) -> Callable[..., dict[str, np.ndarray]]:
    """The SavedModel's signature as a function of arrays by input name; it keeps the loaded model."""
    loaded = tf.saved_model.load(os.fspath(directory))
    signature = loaded.signatures["serving_default"]

    def call(**inputs: Any) -> dict[str, np.ndarray]:
        assert loaded is not None
        specs = signature.structured_input_signature[1]
        feeds = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in signature(**feeds).items()}

    return call


def check_numbers(
    directory: str | os.PathLike,
    function: Callable,
    inputs: Sequence[np.ndarray],
    tolerance: float = 1e-5,
    **arguments: Any,
) -> None:
    """Exports a function and compares what the executable computes with what the function does."""
    specs = [tf.TensorSpec(value.shape, value.dtype) for value in inputs]
    run = serving.export_single_step(function, os.path.join(directory, "model"), 4, specs, **arguments)
    tensors = [tf.constant(value) for value in inputs]
    results = tf.nest.flatten(run(*tensors))
    expected = tf.nest.flatten(function(*tensors))
    assert len(results) == len(expected)
    for result, reference in zip(results, expected, strict=True):
        assert result.dtype == reference.dtype
        assert result.shape == reference.shape
        if result.dtype.is_floating:
            result, reference = tf.cast(result, tf.float64), tf.cast(reference, tf.float64)
            np.testing.assert_allclose(result, reference, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(result, reference)
