"""Rows of named features, as Classify and Regress take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tensorflow_ipu_client import messages
from tensorflow_ipu_client.tensors import as_bytes

# The values of a feature: one, or a list, of str, bytes, float, int or bool.
Features = Mapping[str, ArrayLike | Sequence[Any]]


def feature_values(value: Any) -> tuple[str, list[Any]]:
    """The field of a Feature that holds such values, and the values."""
    array = np.atleast_1d(np.asarray(value))
    kind = array.dtype.kind
    if array.ndim != 1:
        raise ValueError(f"A feature of shape {array.shape} was found, expected a value or a list of values")
    if kind in "SUTO":
        return "bytes_list", [as_bytes(item) for item in array.astype(object)]
    if kind == "f":
        return "float_list", array.astype(np.float32).tolist()
    if kind in "biu":
        return "int64_list", array.astype(np.int64).tolist()
    raise TypeError(f"A feature of {array.dtype} was found, expected str, bytes, float, int or bool")


def to_example(features: Features) -> Any:
    example = messages.Example()
    example.features.SetInParent()
    for name, value in features.items():
        field, values = feature_values(value)
        getattr(example.features.feature[name], field).value.extend(values)
    return example


def to_input(examples: Sequence[Features], context: Features | None) -> Any:
    message = messages.Input()
    target = message.example_list if context is None else message.example_list_with_context
    target.SetInParent()
    target.examples.extend(to_example(features) for features in examples)
    if context is not None:
        target.context.CopyFrom(to_example(context))
    return message
