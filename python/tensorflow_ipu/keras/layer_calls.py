"""Follows the calls of Keras layers: while a functional model is put together, and while a model is traced.

Every call of a layer goes through `__call__` of a base class of its Keras package. `track()` wraps it.
Outside of a PipelineStage scope and of `trace_model()` the wrapper does nothing.

A traced operation carries the stage it belongs to as an attribute of its node (`STAGE_ATTRIBUTE`);
graph_stages.py takes the graph apart by it.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.framework import ops

from tensorflow_ipu import ipu_strategy
from tensorflow_ipu.keras import pipeline_stage

STAGE_ATTRIBUTE = "_ipu_pipeline_stage"


@dataclass(frozen=True)
class LayerCall:
    """A call of a layer directly inside a model: the `node_index`-th one of that layer."""

    layer: Any
    node_index: int
    stage: int | None = None


@dataclass
class _Frame:
    """A layer or model that is being called in the trace."""

    layer: Any
    nodes: Iterator[Any] | None  # of a functional model: its nodes, in the order in which they run
    stages: dict[tuple[int, int], int]  # assigned stages by (id of layer, node index)
    calls: dict[int, int] = field(default_factory=dict)  # how often each layer was called, by id
    staged: bool = False  # a stage was entered inside


class ModelTrace:
    """The layer calls of one trace of a model, and the stage that is current."""

    def __init__(self, graph: Any, model: Any, all_assigned: bool) -> None:
        """`all_assigned`: a layer of the model that belongs to no stage is an error."""
        self.graph = graph
        self.calls: list[LayerCall] = []
        self._model = model
        self._all_assigned = all_assigned
        self._frames: list[_Frame] = []
        self._stage: int | None = None

    def call(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        # The second: Layer.__call__ of Keras 3 has called Operation.__call__.
        if (not self._frames and layer is not self._model) or (
            self._frames and self._frames[-1].layer is layer
        ):
            return original(layer, *args, **kwargs)
        parent = self._frames[-1] if self._frames else None
        direct = parent is not None and parent.layer is self._model
        stage = None
        if parent is not None:
            node_index, node = self._position(parent, layer)
            stage = parent.stages.get((id(layer), node_index))
            if stage is None:
                stage = getattr(node, STAGE_ATTRIBUTE, None)
            if stage is None and self._stage is None and pipeline_stage.current_stage() is None:
                stage = getattr(layer, STAGE_ATTRIBUTE, None)
            if direct and is_layer(layer):
                around = pipeline_stage.current_stage() if self._stage is None else self._stage
                self.calls.append(LayerCall(layer, node_index, around if stage is None else stage))

        frame = _Frame(layer, _nodes_in_order(layer), assigned_stages(layer))
        self._frames.append(frame)
        try:
            with self._in_stage(stage):
                result = original(layer, *args, **kwargs)
        finally:
            self._frames.pop()
        inside = stage is not None or frame.staged
        if direct and self._all_assigned and is_layer(layer) and not inside:
            if self._stage is None and pipeline_stage.current_stage() is None:
                raise ValueError(
                    "All layers of a pipelined model must have an associated pipeline stage. However,"
                    f" {layer.name} has not been assigned to one."
                )
        if inside and parent is not None:
            parent.staged = True
        return result

    @contextlib.contextmanager
    def _in_stage(self, stage: int | None) -> Iterator[None]:
        if stage is None:
            yield
            return
        before, self._stage = self._stage, stage
        try:
            with mark_operations(stage):
                yield
        finally:
            self._stage = before

    def note_stage(self) -> None:
        """A PipelineStage scope was entered inside the layer that is being called."""
        for frame in self._frames:
            frame.staged = True

    @staticmethod
    def _position(parent: _Frame, layer: Any) -> tuple[int, Any]:
        """The index of this call of the layer, and the functional model's node for it."""
        count = parent.calls.get(id(layer), 0)
        parent.calls[id(layer)] = count + 1
        if parent.nodes is None:
            return count, None
        for node in parent.nodes:
            if _operation_of(node) is layer:
                return layer._inbound_nodes.index(node), node
        return count, None


# Whether a model is being called to make its variables: eagerly, so that a graph is one of a tf.function
# inside it.
_building: contextvars.ContextVar[bool] = contextvars.ContextVar("ipu_building_model", default=False)
_trace: contextvars.ContextVar[ModelTrace | None] = contextvars.ContextVar("ipu_model_trace", default=None)


def tracing() -> bool:
    """Whether the caller is inside `trace_model()`."""
    return _trace.get() is not None


@contextlib.contextmanager
def trace_model(model: Any, all_assigned: bool) -> Iterator[ModelTrace]:
    """Operations that are made in this scope by calling the model carry their stage.

    To be used where the default graph is the one the model is traced into.

    Raises:
      ValueError: `all_assigned`, and a layer belongs to no stage.
    """
    track()
    trace = ModelTrace(ops.get_default_graph(), model, all_assigned)
    token = _trace.set(trace)
    try:
        yield trace
    finally:
        _trace.reset(token)


@contextlib.contextmanager
def mark_operations(stage: int) -> Iterator[None]:
    """Graph operations made in this scope belong to the stage."""
    trace = _trace.get()
    if trace is None and not (_building.get() and not tf.executing_eagerly()):
        yield
        return
    graph = ops.get_default_graph()
    if trace is None or graph is not trace.graph:
        raise ValueError(
            f"Pipeline stage {stage} is entered inside a tf.function, a loop or a branch, of which only"
            f" the whole"
            " can belong to a stage. Assign the layer that contains it."
        )
    trace.note_stage()
    with graph._attr_scope({STAGE_ATTRIBUTE: attr_value_pb2.AttrValue(i=stage)}):
        yield


def is_layer(operation: Any) -> bool:
    """Whether it is a layer (tf_keras or Keras 3) that computes something, rather than an input or a bare
    operation."""
    return type(operation).__name__ != "InputLayer" and hasattr(operation, "trainable_weights")


def assigned_stages(model: Any) -> dict[tuple[int, int], int]:
    """The stages `set_pipeline_stage_assignment()` gave, by (id of layer, node index)."""
    return getattr(model, "_ipu_stage_assignment", None) or {}


def functional_nodes(model: Any) -> list[Any] | None:
    """A functional model's nodes in the order in which they run, without inputs; None for other models."""
    graph = getattr(model, "_functional", None) or model
    by_depth = getattr(graph, "_nodes_by_depth", None)
    if not by_depth:
        return None
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if not node.is_input and _operation_of(node) is not None
    ]


def _nodes_in_order(layer: Any) -> Iterator[Any] | None:
    nodes = functional_nodes(layer)
    return None if nodes is None else iter(nodes)


def _operation_of(node: Any) -> Any:
    return getattr(node, "operation", None) or getattr(node, "layer", None)


def _tracked_call(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        trace = _trace.get()
        if trace is not None:
            return trace.call(self, original, args, kwargs)
        if hasattr(self, "fit") and made_in_ipu_strategy(self):
            return _model_call(original, self, args, kwargs)
        if pipeline_stage.current_stage() is None:
            return original(self, *args, **kwargs)
        return _staged_call(original, self, args, kwargs)

    call._ipu_tracked = True  # type: ignore[attr-defined]
    return call


# Whether this thread is inside a call of a model that was made in an IPU strategy.
_inside_model: contextvars.ContextVar[bool] = contextvars.ContextVar("ipu_inside_model", default=False)


def inside_model() -> bool:
    """Whether the caller is inside `call` of a model that was made in an IPU strategy."""
    return tracing() or _inside_model.get()


def made_in_ipu_strategy(model: Any) -> bool:
    """Whether the model was made inside the scope of an IPU strategy."""
    # Of Keras 3 and of tf_keras. Their property gives the strategy that is current when there was none.
    strategy = getattr(model, "_distribute_strategy", None) or getattr(model, "_distribution_strategy", None)
    return isinstance(strategy, ipu_strategy.IPUStrategyV1) and strategy.enable_keras_extensions


def _model_call(original: Callable[..., Any], model: Any, args: Any, kwargs: Any) -> Any:
    if args:
        _remember_call(model, args[0])
    token = _inside_model.set(True)
    try:
        stage = pipeline_stage.current_stage()
        return (
            original(model, *args, **kwargs) if stage is None else _staged_call(original, model, args, kwargs)
        )
    finally:
        _inside_model.reset(token)


def _staged_call(original: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
    """A call in a PipelineStage scope: if it becomes a node of a functional model, that belongs to the
    stage."""
    before = len(layer._inbound_nodes)
    result = original(layer, *args, **kwargs)
    for node in layer._inbound_nodes[before:]:
        setattr(node, STAGE_ATTRIBUTE, pipeline_stage.current_stage())
    return result


def _remember_call(model: Any, inputs: Any) -> None:
    """Keeps shapes and dtypes of what a model is called with."""
    if all(hasattr(item, "shape") and hasattr(item, "dtype") for item in tf.nest.flatten(inputs)):
        specs = tf.nest.map_structure(lambda item: tf.TensorSpec(item.shape, item.dtype), inputs)
        object.__setattr__(model, "_ipu_called_with", specs)


def called_with(model: Any) -> Any:
    """TensorSpecs of what a model was last called with, or None."""
    return getattr(model, "_ipu_called_with", None)


def _remember_stage(layer: Any) -> None:
    """The stage of a layer that is made in a PipelineStage scope."""
    stage = pipeline_stage.current_stage()
    if stage is not None and not tracing():
        object.__setattr__(layer, STAGE_ATTRIBUTE, stage)


# The packages look at the arguments of these, so that they have to be the original ones.


def _tracked_keras_init(original: Callable[..., None]) -> Callable[..., None]:
    def __init__(self: Any, name: Any = None) -> None:
        original(self, name=name)
        _remember_stage(self)

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
        _remember_stage(self)

    return functools.wraps(original)(__init__)


def track() -> None:
    """Wraps the base classes of the Keras packages that are imported. Idempotent."""
    keras, tf_keras = sys.modules.get("keras"), sys.modules.get("tf_keras")
    if keras is not None:
        if _wrap_call(keras.Operation):
            keras.Operation.__init__ = _tracked_keras_init(keras.Operation.__init__)
        _wrap_call(keras.layers.Layer)
    if tf_keras is not None and _wrap_call(tf_keras.layers.Layer):
        tf_keras.layers.Layer.__init__ = _tracked_tf_keras_init(tf_keras.layers.Layer.__init__)


def _wrap_call(base: Any) -> bool:
    """False when it was wrapped before."""
    if "__call__" not in vars(base) or getattr(vars(base)["__call__"], "_ipu_tracked", False):
        return False
    base.__call__ = _tracked_call(base.__call__)
    return True


def all_layers(model: Any) -> list[Any]:
    """The model and all layers inside it, at any depth."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def build(model: Any, structure: Any) -> None:
    """Makes the variables that a model only makes when it is called, by calling it on zeros.

    Args:
      structure: TensorSpecs of what it takes.
    """
    if not all(layer.built for layer in all_layers(model)):
        before = called_with(model)
        token = _building.set(True)
        try:
            zeros = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), structure)
            model(zeros, training=False)
        finally:
            _building.reset(token)
            object.__setattr__(model, "_ipu_called_with", before)


def trace_to_graph(model: Any, inputs: Any, all_assigned: bool) -> tuple[Any, list[LayerCall]]:
    """Calls the model on `inputs` (a structure of tensors of the default graph), as for inference.

    Returns:
      What the model returns, and the calls of layers directly inside it.
    """
    with trace_model(model, all_assigned) as trace:
        return model(inputs, training=False), trace.calls


__all__ = [
    "STAGE_ATTRIBUTE",
    "LayerCall",
    "all_layers",
    "build",
    "called_with",
    "inside_model",
    "made_in_ipu_strategy",
    "functional_nodes",
    "is_layer",
    "mark_operations",
    "trace_model",
    "trace_to_graph",
    "track",
    "tracing",
]
