"""Follows the calls of Keras layers: while a functional model is put together, and while a model is traced.

Every call of a layer goes through `__call__` of a base class of its Keras package. `track()` wraps it.
Outside of a PipelineStage scope and of a trace the wrapper only notes what models are called with.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import tensorflow as tf

from tensorflow_ipu import ipu_strategy
from tensorflow_ipu.keras import model_structure, model_trace
from tensorflow_ipu.keras.model_trace import STAGE_ATTRIBUTE, scope_stage


def track(packages: Sequence[ModuleType]) -> None:
    """Wraps the base classes of Keras packages, which are imported as a whole. Idempotent."""
    named: dict[str, Any] = {package.__name__: package for package in packages}
    keras, tf_keras = named.get("keras"), named.get("tf_keras")
    if keras is not None:
        if _wrap_call(keras.Operation):
            keras.Operation.__init__ = _tracked_keras_init(keras.Operation.__init__)
        _wrap_call(keras.layers.Layer)
    if tf_keras is not None and _wrap_call(tf_keras.layers.Layer):
        tf_keras.layers.Layer.__init__ = _tracked_tf_keras_init(tf_keras.layers.Layer.__init__)
        for base in (tf_keras.Model, tf_keras.Sequential):
            base.build = _tracked_tf_keras_build(base.build)


def _wrap_call(base: Any) -> bool:
    """False when it was wrapped before."""
    if "__call__" not in vars(base) or getattr(vars(base)["__call__"], "_ipu_tracked", False):
        return False
    base.__call__ = _tracked_call(base.__call__)
    return True


def _tracked_call(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        trace = model_trace.current_trace()
        if trace is not None:
            return trace.call(self, original, args, kwargs)
        if model_trace.is_building() and model_structure.is_symbolic((args, kwargs)):
            with model_trace.untraced():
                return original(self, *args, **kwargs)
        if model_structure.is_nested_model(self):
            return _model_call(original, self, args, kwargs)
        return _staged_call(original, self, args, kwargs)

    call._ipu_tracked = True  # type: ignore[attr-defined]
    return call


# Whether this thread is inside a call of a model that was made in an IPU strategy.
_inside_model: contextvars.ContextVar[bool] = contextvars.ContextVar("ipu_inside_model", default=False)


def inside_model() -> bool:
    """Whether the caller is inside `call` of a model that was made in an IPU strategy."""
    return model_trace.current_trace() is not None or _inside_model.get()


def _model_call(original: Callable[..., Any], model: Any, args: Any, kwargs: Any) -> Any:
    _remember_call(model, args, kwargs)
    token = _inside_model.set(True)
    try:
        return _staged_call(original, model, args, kwargs)
    finally:
        _inside_model.reset(token)


def _staged_call(original: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
    """In a PipelineStage scope, a call that becomes a node of a functional model belongs to the stage."""
    stage = scope_stage.get()
    if stage is None:
        return original(layer, *args, **kwargs)
    before = len(layer._inbound_nodes)
    result = original(layer, *args, **kwargs)
    for node in layer._inbound_nodes[before:]:
        setattr(node, STAGE_ATTRIBUTE, stage)
    return result


def _remember_call(model: Any, args: Any, kwargs: Any) -> None:
    """Keeps shapes and dtypes of what a model is called with."""

    def spec(value: Any) -> Any:
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            return value
        return tf.TensorSpec(value.shape, value.dtype)

    kwargs = {name: value for name, value in kwargs.items() if name != "training"}
    specs = tf.nest.map_structure(spec, (list(args), kwargs))
    if any(isinstance(item, tf.TensorSpec) for item in tf.nest.flatten(specs)):
        remember_arguments(model, specs)


def remember_arguments(model: Any, specs: Any) -> None:
    """`specs`: a list and a dictionary of what the model takes, with TensorSpecs for tensors; or None."""
    object.__setattr__(model, "_ipu_called_with", specs)


def called_with(model: Any) -> Any:
    """What a model was last called with or built for, as `remember_arguments()` takes it, or None."""
    return getattr(model, "_ipu_called_with", None)


# Building


def build(model: Any, arguments: Any) -> None:
    """Makes the variables that a model only makes when it is called, by calling it on zeros.

    Args:
      arguments: a list and a dictionary of what it takes, with TensorSpecs for tensors.
    """
    if all(layer.built for layer in model_structure.all_layers(model)):
        return
    before = called_with(model)
    args, kwargs = tf.nest.map_structure(_zeros, arguments)
    try:
        with model_trace.building():
            model(*args, **kwargs, training=False)
    finally:
        remember_arguments(model, before)


def _zeros(spec: Any) -> Any:
    if not isinstance(spec, tf.TensorSpec):
        return spec
    return tf.zeros([1 if size is None else size for size in spec.shape], spec.dtype)


def _build(model: Any, original: Callable[..., None], shapes: Any) -> None:
    """`build()` of a model made in an IPU strategy: it also takes keras.Input objects, and tensors as
    dimensions."""
    typed = model_structure.is_symbolic(shapes)
    if typed and model_structure.model_kind(model) != "functional":
        specs = specs_of_shapes(shapes, input_dtype(model))
        build(model, ([specs], {}))
        remember_arguments(model, ([specs], {}))
        object.__setattr__(model, "_ipu_built_for", ([specs], {}))
    if not typed or not model.built:
        token = _inside_model.set(True)
        try:
            original(_plain_shapes(shapes))
        finally:
            _inside_model.reset(token)


def built_for(model: Any) -> Any:
    """What `build()` was given with keras.Input objects, as `remember_arguments()` takes it, or None."""
    return getattr(model, "_ipu_built_for", None)


def input_dtype(model: Any) -> Any:
    """The dtype that a model takes whose inputs have only a shape."""
    return getattr(model, "input_dtype", None) or getattr(model, "compute_dtype", None) or "float32"


def specs_of_shapes(shapes: Any, dtype: Any) -> Any:
    """A TensorSpec for each shape or keras.Input, of which the latter has a dtype of its own."""
    if isinstance(shapes, Mapping):
        return {key: specs_of_shapes(item, dtype) for key, item in shapes.items()}
    if not model_structure.is_symbolic(shapes):
        shape = _plain_shapes(shapes)
        if isinstance(shape, tf.TensorShape) or all(size is None or isinstance(size, int) for size in shape):
            return tf.TensorSpec(shape, dtype)
    elif not isinstance(shapes, (list, tuple)):
        return tf.TensorSpec(shapes.shape, shapes.dtype)
    return [specs_of_shapes(item, dtype) for item in shapes]


def _plain_shapes(shapes: Any) -> Any:
    """Shapes without tensors: what the `build()` of Keras takes."""
    if isinstance(shapes, Mapping):
        return {key: _plain_shapes(item) for key, item in shapes.items()}
    if isinstance(shapes, (list, tuple)):
        items = [_dimension(item) for item in shapes]
        if all(item is None or isinstance(item, int) for item in items):
            return tuple(items)
        return [_plain_shapes(item) for item in shapes]
    return tuple(shapes.shape) if model_structure.is_symbolic(shapes) else shapes


def _dimension(value: Any) -> Any:
    """The int that a scalar tensor or a NumPy integer is; other values as they are."""
    if isinstance(value, tf.compat.v1.Dimension):
        return value.value
    if tf.is_tensor(value) and value.shape.rank == 0:
        value = tf.get_static_value(value)
    return int(value) if hasattr(value, "__index__") else value


def _tracked_tf_keras_build(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def build(self: Any, input_shape: Any = None) -> None:
        if model_structure.made_in_ipu_strategy(self):
            _build(self, functools.partial(original, self), input_shape)
        else:
            original(self, input_shape)

    return build


def _track_keras_build(model: Any) -> None:
    # Keras 3 makes a wrapper for each object that keeps the shapes, so that this one has to be outside of it.
    original = model.build

    @functools.wraps(original)
    def tracked(*args: Any, **kwargs: Any) -> None:
        shapes = [*args, *kwargs.values()]
        if len(shapes) != 1 or model_trace.is_building():
            original(*args, **kwargs)
            return
        if getattr(original, "_is_default", False) and not model_structure.is_symbolic(shapes):
            # Keras would only note that the model is built. Its dtype is a guess, which the first call
            # replaces.
            with contextlib.suppress(Exception):
                build(model, ([specs_of_shapes(shapes[0], input_dtype(model))], {}))
        _build(model, original, shapes[0])

    object.__setattr__(model, "build", tracked)


# Layers that are made


def _made(layer: Any) -> None:
    """The stage of a layer that is made in a PipelineStage scope."""
    stage = scope_stage.get()
    if stage is not None and model_trace.current_trace() is None:
        object.__setattr__(layer, STAGE_ATTRIBUTE, stage)


# The packages look at the arguments of these, so that they have to be the original ones.


def _tracked_keras_init(original: Callable[..., None]) -> Callable[..., None]:
    def __init__(self: Any, name: Any = None) -> None:
        original(self, name=name)
        _made(self)
        if model_structure.is_model(self) and ipu_strategy.in_ipu_strategy():
            _track_keras_build(self)

    return functools.wraps(original)(__init__)


def _tracked_tf_keras_init(original: Callable[..., None]) -> Callable[..., None]:
    def __init__(
        self: Any,
        trainable: Any = True,
        name: Any = None,
        dtype: Any = None,
        dynamic: Any = False,
        **kwargs: Any,
    ) -> None:
        original(self, trainable=trainable, name=name, dtype=dtype, dynamic=dynamic, **kwargs)
        _made(self)

    return functools.wraps(original)(__init__)
