"""What a Keras model takes: names, shapes and dtypes of its inputs, and the structure it wants them in."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tensorflow_ipu.keras import layer_calls, model_structure

# Names that Keras makes up when the user gave none.
_MADE_UP = re.compile(r"(keras_tensor|input_layer)(_\d+)?(CLONE)?")


@dataclass(frozen=True)
class ModelInputs:
    """The inputs of a model, flat.

    signature: a TensorSpec for each, static and named.
    structure: what the model is called with, a list and a dictionary, with TensorSpecs for the inputs.
    """

    signature: Sequence[tf.TensorSpec]
    structure: Any

    def arguments(self, tensors: Sequence[Any]) -> Any:
        """`structure` with tensors in the places of the inputs."""
        following = iter(tensors)
        return tf.nest.map_structure(
            lambda item: next(following) if isinstance(item, tf.TensorSpec) else item, self.structure
        )


def describe(model: Any, batch_size: Any = None, any_batch: bool = False) -> ModelInputs:
    """The inputs of a model.

    Functional and Sequential models know theirs. Those of a subclassed model are what it was last called with
    or built for. Keys of a dictionary and, where `call` takes several inputs, its parameters are the names of
    inputs; else those of Input layers, and input_1, input_2, ... where there are none.

    Args:
      batch_size: int or scalar tensor; replaces the leading dimension of each input.
      any_batch: a batch size that is not known may be any.

    Raises:
      TypeError: batch_size is not an integer.
      ValueError: a subclassed model was not built; the batch size is not known; another dimension is not
        known.
    """
    size = _as_int(batch_size)
    structure = tf.nest.map_structure(
        lambda item: _with_batch(model, item, size, 1 if any_batch else None), _declared(model)
    )
    flat = [item for item in tf.nest.flatten(structure) if isinstance(item, tf.TensorSpec)]
    signature = [
        tf.TensorSpec(spec.shape, spec.dtype, name)
        for spec, name in zip(flat, _unique(_names(model, structure)), strict=True)
    ]
    return ModelInputs(signature, structure)


def _declared(model: Any) -> Any:
    """The inputs as the model declares them, dimensions possibly unknown."""
    if model_structure.model_kind(model) == "sequential":
        inferred = _inferred_in_sequential(model)
        if inferred is not None:
            return tf.nest.map_structure(lambda item: _as_computed(model, item), inferred)
    if getattr(model, "_is_graph_network", False):  # tf_keras
        names = iter(model.input_names)
        specs = tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype, next(names)), model._nested_inputs
        )
        return [specs], {}
    graph = getattr(model, "_functional", None) or model
    if hasattr(graph, "_inputs_struct"):  # Keras 3
        specs = tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name), graph._inputs_struct
        )
        return [specs], {}
    called = layer_calls.called_with(model)
    if called is None:
        called = _called_in_tf_keras(model)
    if called is None:
        called = _built_for(model)
    if called is None:
        raise ValueError(
            f"The inputs of the model '{model.name}' are not known, because it has not been built. Call "
            "`model.build()` with the shapes of its inputs, or call the model once."
        )
    return tf.nest.map_structure(lambda item: _as_computed(model, item), called)


def _inferred_in_sequential(model: Any) -> Any:
    """What a Sequential model without an Input layer was built for or called with.

    Its graph does not tell: in Keras 3 it takes the dtype of the first layer, in tf_keras it forgets sizes
    that differ from call to call.
    """
    built = layer_calls.built_for(model)
    if built is None and not getattr(model, "_has_explicit_input_shape", True):  # tf_keras
        built = layer_calls.called_with(model)
    return built


def _as_computed(model: Any, item: Any) -> Any:
    """The spec of what `call` gets: Keras turns float64, NumPy's default, into the model's dtype."""
    if not isinstance(item, tf.TensorSpec):
        return item
    converted = getattr(model, "autocast", getattr(model, "_autocast", False))
    dtype = tf.as_dtype(item.dtype)
    if converted and dtype == tf.float64 and model.compute_dtype != "float64":
        dtype = tf.float32
    return tf.TensorSpec(item.shape, dtype)


def _called_in_tf_keras(model: Any) -> Any:
    args, kwargs = getattr(model, "_saved_model_arg_spec", None) or ((), {})
    return (list(args), dict(kwargs)) if args else None


def _built_for(model: Any) -> Any:
    shapes = getattr(model, "_build_shapes_dict", None)  # Keras 3
    shape = next(iter(shapes.values())) if shapes else getattr(model, "_build_input_shape", None)
    if shape is None:
        return None
    return [layer_calls.specs_of_shapes(shape, layer_calls.input_dtype(model))], {}


def _names(model: Any, structure: Any) -> list[str]:
    """A name for each input."""
    args, kwargs = structure
    parameters = list(inspect.signature(model.call).parameters)
    given = [*zip([*parameters, *[""] * len(args)], args, strict=False), *sorted(kwargs.items())]
    fed = [(name, paths) for name, value in given if (paths := list(_paths(value, ())))]
    names = []
    for parameter, paths in fed:
        for path, spec in paths:
            by_key = any(isinstance(step, str) for step in path)
            parts = [str(step) for step in path]
            if len(fed) > 1:
                parts = parts if by_key and len(path) == 1 else [parameter, *parts]
            elif not by_key and spec.name and not _MADE_UP.fullmatch(spec.name):
                parts = [spec.name]
            elif not by_key:
                parts = ["input", *(parts or ["1"])]
            names.append(_identifier("_".join(parts)))
    return names


def _paths(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], tf.TensorSpec]]:
    """The TensorSpecs in a value and where they are in it, in the order of tf.nest; lists are counted from
    1."""
    if isinstance(value, tf.TensorSpec):
        yield path, value
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from _paths(value[key], (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield from _paths(item, (*path, position + 1))


def _identifier(name: str) -> str:
    name = re.sub(r"\W", "_", name)
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"input_{name}"


def _with_batch(model: Any, spec: Any, batch_size: int | None, default: int | None) -> Any:
    if not isinstance(spec, tf.TensorSpec):
        return spec
    if spec.shape.rank is None:
        raise ValueError(f"The rank of an input of the model '{model.name}' is not known: {spec}.")
    dims = spec.shape.as_list()
    if batch_size is not None and dims:
        dims[0] = batch_size
    elif dims and dims[0] is None:
        dims[0] = default
    if dims and dims[0] is None:
        raise ValueError(
            f"The batch size of the model '{model.name}' is not known: an input has the shape {spec.shape}. "
            "Pass `batch_size`, or give the model's Input layers one."
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


def _unique(names: Sequence[str]) -> list[str]:
    result: list[str] = []
    for name in names:
        candidate, count = name, 1
        while candidate in result:
            candidate, count = f"{name}_{count}", count + 1
        result.append(candidate)
    return result
