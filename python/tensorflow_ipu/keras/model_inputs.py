"""What a Keras model takes: names, shapes and dtypes of its inputs, and the structure it wants them in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tensorflow_ipu.keras import layer_calls

# Names that Keras makes up when the user gave none.
_MADE_UP = re.compile(r"keras_tensor(_\d+)?(CLONE)?")


@dataclass(frozen=True)
class ModelInputs:
    """The inputs of a model, flat.

    signature: a TensorSpec for each, static and named.
    structure: the TensorSpecs in the structure the model is called with.
    """

    signature: Sequence[tf.TensorSpec]
    structure: Any

    def pack(self, tensors: Sequence[Any]) -> Any:
        """Flat tensors in the structure the model is called with."""
        return tf.nest.pack_sequence_as(self.structure, list(tensors))


def describe(model: Any, batch_size: Any = None, any_batch: bool = False) -> ModelInputs:
    """The inputs of a model.

    Functional and Sequential models know theirs. Those of a subclassed model are what it was last called
    with or built for; they are named input_1, input_2, ..., as are inputs that have no name.

    Args:
      batch_size: int or scalar tensor; replaces the leading dimension of each input.
      any_batch: a batch size that is not known may be any.

    Raises:
      TypeError: batch_size is no integer.
      ValueError: a subclassed model was not built; the batch size is not known; another dimension is not
        known.
    """
    structure = _declared(model)
    size = _as_int(batch_size)
    flat = [_with_batch(model, spec, size, 1 if any_batch else None) for spec in tf.nest.flatten(structure)]
    names = _unique([_name(spec, position) for position, spec in enumerate(tf.nest.flatten(structure))])
    named = [tf.TensorSpec(spec.shape, spec.dtype, name) for spec, name in zip(flat, names, strict=True)]
    return ModelInputs(named, tf.nest.pack_sequence_as(structure, flat))


def _declared(model: Any) -> Any:
    """The inputs as the model declares them, dimensions possibly unknown."""
    if getattr(model, "_is_graph_network", False):  # tf_keras
        names = iter(model.input_names)
        return tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype, next(names)), model._nested_inputs
        )
    graph = getattr(model, "_functional", None) or model
    if hasattr(graph, "_inputs_struct"):  # Keras 3
        return tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name), graph._inputs_struct
        )
    called = layer_calls.called_with(model)
    if called is None:
        called = _called_in_tf_keras(model)
    if called is None:
        called = _built_for(model)
    if called is None:
        raise ValueError(
            f"The inputs of the model '{model.name}' are not known, because it has not been built. Call"
            " `model.build()` with the shapes of its inputs, or call the model once."
        )
    return tf.nest.map_structure(lambda spec: tf.TensorSpec(spec.shape, spec.dtype), called)


def _called_in_tf_keras(model: Any) -> Any:
    args = getattr(model, "_saved_model_arg_spec", None)
    return args[0][0] if args and args[0] else None


def _built_for(model: Any) -> Any:
    shapes = getattr(model, "_build_shapes_dict", None)  # Keras 3
    shape = next(iter(shapes.values())) if shapes else getattr(model, "_build_input_shape", None)
    if shape is None:
        return None
    dtype = getattr(model, "input_dtype", None) or getattr(model, "compute_dtype", None) or "float32"

    def specs(shape: Any) -> Any:
        if isinstance(shape, dict):
            return {key: specs(value) for key, value in shape.items()}
        if isinstance(shape, tf.TensorShape):
            return tf.TensorSpec(shape, dtype)
        if all(dim is None or isinstance(dim, int) for dim in shape):
            return tf.TensorSpec(shape, dtype)
        return [specs(item) for item in shape]

    return specs(shape)


def _with_batch(
    model: Any, spec: tf.TensorSpec, batch_size: int | None, default: int | None
) -> tf.TensorSpec:
    if spec.shape.rank is None:
        raise ValueError(f"The rank of an input of the model '{model.name}' is not known: {spec}.")
    dims = spec.shape.as_list()
    if batch_size is not None and dims:
        dims[0] = batch_size
    elif dims and dims[0] is None:
        dims[0] = default
    if dims and dims[0] is None:
        raise ValueError(
            f"The batch size of the model '{model.name}' is not known: an input has the shape"
            f" {spec.shape}. Pass"
            " `batch_size`, or give the model's Input layers one."
        )
    if None in dims:
        raise ValueError(
            f"An input of the model '{model.name}' has the shape {spec.shape}. All dimensions must be known."
        )
    return tf.TensorSpec(dims, spec.dtype, spec.name)


def _as_int(batch_size: Any) -> int | None:
    if batch_size is None:
        return None
    value = tf.get_static_value(batch_size) if tf.is_tensor(batch_size) else batch_size
    array = np.asarray(value)
    if array.ndim > 0 or array.dtype.kind not in "iu":
        raise TypeError(f"batch_size must be an int or a scalar integer tensor, not {batch_size!r}.")
    size = int(array)
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, but {size} was given.")
    return size


def _name(spec: tf.TensorSpec, position: int) -> str:
    if spec.name and not _MADE_UP.fullmatch(spec.name):
        return re.sub(r"\W", "_", spec.name)
    return f"input_{position + 1}"


def _unique(names: Sequence[str]) -> list[str]:
    result: list[str] = []
    for name in names:
        candidate, count = name, 1
        while candidate in result:
            candidate, count = f"{name}_{count}", count + 1
        result.append(candidate)
    return result
