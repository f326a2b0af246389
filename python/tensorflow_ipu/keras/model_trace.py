"""Traces a model into a graph whose operations carry the pipeline stage they belong to.

While a model is traced, layer_calls.py reports each call of a layer. The stage of a call is, in this order:
the one assigned to it; that of the PipelineStage scope it was called in; that of the layer or model around
it; that of the scope the layer was made in. It is an attribute of the nodes that the call makes
(`STAGE_ATTRIBUTE`); graph_stages.py takes the graph apart by it.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.framework import ops

from tensorflow_ipu.keras import model_structure

STAGE_ATTRIBUTE = "_ipu_pipeline_stage"
LAYER_ATTRIBUTE = "_ipu_layer"

# The stages of the layer calls in a model, by (id of layer, node index); for a nested model those inside it.
StageTree = dict[tuple[int, int], Any]

# The stage of the innermost PipelineStage scope of this thread; None outside of one.
scope_stage: contextvars.ContextVar[int | None] = contextvars.ContextVar("ipu_pipeline_stage", default=None)


@dataclass(frozen=True)
class LayerCall:
    """A call of a layer directly inside a model: the `node_index`-th one of that layer.

    calls: None, or what a nested model calls.
    inbound_layers: the layers whose results it takes; of calls that were found by tracing.
    """

    layer: Any
    node_index: int
    stage: int | None = None
    calls: tuple[LayerCall, ...] | None = None
    inbound_layers: tuple[Any, ...] = ()


@dataclass
class _Frame:
    """A layer or model that is being called in the trace.

    calls: of a model that is reached through models only: the calls of its layers so far.
    """

    layer: Any
    nodes: Iterator[Any] | None  # of a functional model: its nodes, in the order in which they run
    stages: StageTree
    calls: list[LayerCall] | None
    counts: dict[int, int] = field(default_factory=dict)  # how often each layer was called, by id
    staged: bool = False  # a stage was entered inside


class ModelTrace:
    """One trace of a model.

    Attributes:
      calls: the calls of layers directly inside the model.
      stages: all stages that layer calls and PipelineStage scopes belong to.
    """

    def __init__(self, graph: Any, model: Any, all_assigned: bool) -> None:
        """`all_assigned`: a layer of the model, or of one nested in it, that belongs to no stage is an
        error."""
        self.graph = graph
        self.calls: list[LayerCall] = []
        self.stages: set[int] = set()
        self._model = model
        self._all_assigned = all_assigned
        self._frames: list[_Frame] = []
        self._stage: int | None = None
        self._makers: dict[int, Any] = {}  # the layer that made a tensor, by the tensor's id

    def call(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Calls `original(layer, *args, **kwargs)`, and marks what it makes."""
        parent = self._frames[-1] if self._frames else None
        # The second: Layer.__call__ of Keras 3 has called Operation.__call__.
        if (parent is None and layer is not self._model) or (parent is not None and parent.layer is layer):
            return original(layer, *args, **kwargs)
        if model_structure.is_symbolic((args, kwargs)):  # a model puts itself together
            with untraced():
                return original(layer, *args, **kwargs)
        if parent is None:
            return self._run(_frame(layer, assigned_stages(layer), self.calls), None, original, args, kwargs)

        node_index, node = _position(parent, layer)
        assigned = parent.stages.get((id(layer), node_index))
        nested = parent.calls is not None and model_structure.is_nested_model(layer)
        stages = assigned if isinstance(assigned, dict) else assigned_stages(layer)
        frame = _frame(layer, stages, [] if nested else None)
        stage = assigned if isinstance(assigned, int) else self._own_stage(layer, node)
        around = self._around()
        try:
            return self._run(frame, stage, original, args, kwargs)
        finally:
            if parent.calls is not None and model_structure.is_layer(layer):
                inside = None if frame.calls is None else tuple(frame.calls)
                found = around if stage is None else stage
                inbound = self._inbound_layers((args, kwargs))
                parent.calls.append(LayerCall(layer, node_index, found, inside, inbound))
            parent.staged |= frame.staged or stage is not None

    def _own_stage(self, layer: Any, node: Any) -> int | None:
        stage = getattr(node, STAGE_ATTRIBUTE, None)
        if stage is None and self._around() is None:
            stage = getattr(layer, STAGE_ATTRIBUTE, None)
        return stage

    def _around(self) -> int | None:
        """The stage that a call belongs to which has none of its own."""
        return scope_stage.get() if self._stage is None else self._stage

    def _run(
        self, frame: _Frame, stage: int | None, original: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        layer = frame.layer
        is_leaf = frame.calls is None and self._frames and self._frames[-1].calls is not None
        named = is_leaf and model_structure.is_layer(layer)
        self._frames.append(frame)
        try:
            with self._in_stage(stage), self._named(layer.name) if named else contextlib.nullcontext():
                result = original(layer, *args, **kwargs)
        finally:
            self._frames.pop()
        if named:
            self._check_assigned(frame, stage)
            for tensor in tf.nest.flatten(result):
                self._makers[id(tensor)] = layer
        return result

    def _check_assigned(self, frame: _Frame, stage: int | None) -> None:
        if model_structure.is_bare_operation(frame.layer):
            return
        if self._all_assigned and stage is None and not frame.staged and self._around() is None:
            raise ValueError(
                "All layers of a pipelined model must have an associated pipeline stage. However, "
                f"{frame.layer.name} has not been assigned to one. A stage is assigned where a layer is made "
                "or called in a PipelineStage scope, or by set_pipeline_stage_assignment()."
            )

    def _inbound_layers(self, arguments: Any) -> tuple[Any, ...]:
        """The layers whose results are among the arguments, or that those are computed from."""
        found: list[Any] = []
        for argument in tf.nest.flatten(arguments):
            waiting, seen = [argument], set()
            while waiting:
                tensor = waiting.pop()
                if (
                    id(tensor) in seen
                    or not tf.is_tensor(tensor)
                    or getattr(tensor, "graph", 0) is not self.graph
                ):
                    continue
                seen.add(id(tensor))
                if id(tensor) in self._makers:
                    found.append(self._makers[id(tensor)])
                else:
                    waiting.extend(reversed(tensor.op.inputs))
        return tuple(found)

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

    @contextlib.contextmanager
    def _named(self, layer_name: str) -> Iterator[None]:
        with self.graph._attr_scope({LAYER_ATTRIBUTE: attr_value_pb2.AttrValue(s=layer_name.encode())}):
            yield

    def note_stage(self, stage: int) -> None:
        """A stage was entered inside the layer that is being called."""
        self.stages.add(stage)
        for frame in self._frames:
            frame.staged = True


def _frame(layer: Any, stages: StageTree, calls: list[LayerCall] | None) -> _Frame:
    # The nodes of a Sequential model say nothing, and are made anew when it is called with another shape.
    sequential = model_structure.is_model(layer) and model_structure.model_kind(layer) == "sequential"
    nodes = None if sequential else model_structure.functional_nodes(layer)
    return _Frame(layer, None if nodes is None else iter(nodes), stages, calls)


def _position(parent: _Frame, layer: Any) -> tuple[int, Any]:
    """The index of this call of the layer, and the functional model's node for it."""
    count = parent.counts.get(id(layer), 0)
    parent.counts[id(layer)] = count + 1
    for node in parent.nodes or ():
        if model_structure.operation_of(node) is layer:
            return layer._inbound_nodes.index(node), node
    return count, None


_trace: contextvars.ContextVar[ModelTrace | None] = contextvars.ContextVar("ipu_model_trace", default=None)
# Whether a model is being called to make its variables: eagerly, so that a graph is one of a tf.function
# inside it.
_building: contextvars.ContextVar[bool] = contextvars.ContextVar("ipu_building_model", default=False)


def current_trace() -> ModelTrace | None:
    """The trace that the caller is in."""
    return _trace.get()


def assigned_stages(model: Any) -> StageTree:
    """What `set_pipeline_stage_assignment()` gave the model; empty where it was not called."""
    return getattr(model, "_ipu_stage_assignment", None) or {}


def trace_to_graph(
    model: Any, arguments: Callable[[], Any], all_assigned: bool = False
) -> tuple[Any, ModelTrace]:
    """Calls the model into the default graph, as for inference.

    Args:
      model: the model.
      arguments: gives what the model is called with: a list and a dictionary of tensors of the default graph.
      all_assigned: a layer that belongs to no stage is an error.

    Returns:
      What the model returns, and the trace.

    Raises:
      ValueError: `all_assigned`, and a layer belongs to no stage.
    """
    trace = ModelTrace(ops.get_default_graph(), model, all_assigned)
    args, kwargs = arguments()
    token = _trace.set(trace)
    try:
        return model(*args, **kwargs, training=False), trace
    finally:
        _trace.reset(token)


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """A scope in which a model puts itself together: nothing in it is part of a trace."""
    tokens = _trace.set(None), _building.set(False)
    try:
        yield
    finally:
        _trace.reset(tokens[0])
        _building.reset(tokens[1])


@contextlib.contextmanager
def building() -> Iterator[None]:
    """A scope in which a model is called eagerly to make its variables."""
    token = _building.set(True)
    try:
        yield
    finally:
        _building.reset(token)


def is_building() -> bool:
    """Whether the caller is inside `building()`."""
    return _building.get()


@contextlib.contextmanager
def mark_operations(stage: int) -> Iterator[None]:
    """Graph operations made in this scope belong to the stage.

    Raises:
      ValueError: it is entered in a function, loop or branch inside the model.
    """
    trace = _trace.get()
    graph = ops.get_default_graph()
    inside_function = _building.get() and not tf.executing_eagerly() and not _is_scratch(graph)
    if trace is None and not inside_function:
        yield
        return
    if trace is None or graph is not trace.graph:
        raise ValueError(
            f"Pipeline stage {stage} is entered inside a tf.function, a loop or a branch, of which only the "
            "whole can belong to a stage. Assign the layer that contains it."
        )
    trace.note_stage(stage)
    with graph._attr_scope({STAGE_ATTRIBUTE: attr_value_pb2.AttrValue(i=stage)}):
        yield


def _is_scratch(graph: Any) -> bool:
    """Whether Keras 3 calls a layer in the graph only to learn the shapes of its results."""
    return getattr(graph, "name", "").startswith("scratch_graph")
