"""Collects a program while a function that builds one is traced: its main loop or pipeline, and its feeds.

`loops.repeat`, `loops.while_loop` and `pipelining_ops.pipeline` have two meanings. Inside `collect()`, which
`application_compile_op` uses, the first of them that is fed becomes the main program: its body is traced as
the step that the device repeats, and nothing is built. Everywhere else they build TensorFlow loops, which
run on the host.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.framework import func_graph as func_graph_module
from tensorflow.python.framework import ops

if TYPE_CHECKING:
    from tensorflow_ipu.pipelining_ops import PipelineLayout


class ProgramGraph(func_graph_module.FuncGraph):
    """A graph whose variables are captured by value, and which knows what variable each value is of."""

    def __init__(self, name: str) -> None:
        super().__init__(name, capture_by_value=True)
        self.variable_names: dict[int, str] = {}  # by id of the value as it was captured
        self._handle_names: dict[int, str] = {}

    def watch_variable(self, variable: Any) -> None:
        super().watch_variable(variable)
        self.root()._handle_names[id(variable.handle)] = variable.name.split(":")[0]

    def root(self) -> ProgramGraph:
        """The outermost graph of the program."""
        outer = self.outer_graph
        return outer.root() if isinstance(outer, ProgramGraph) else self

    def _capture_by_value(self, op_type: str, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        operation = super()._capture_by_value(op_type, inputs, *args, **kwargs)
        root = self.root()
        outer = {id(inner): outer for outer, inner in self.captures}
        value = outer[id(operation.outputs[0])]
        while isinstance(getattr(value, "graph", None), ProgramGraph):
            value = {id(inner): outer for outer, inner in value.graph.captures}[id(value)]
        handle = inputs[0]
        if not isinstance(handle, ops.EagerTensor) and isinstance(handle.graph, func_graph_module.FuncGraph):
            handle = {id(inner): outer for outer, inner in handle.graph.captures}.get(id(handle), handle)
        if op_type == "ReadVariableOp":
            root.variable_names[id(value)] = root._handle_names.get(id(handle), f"variable_{id(value)}")
        return operation


@dataclass
class TracedStage:
    """One part of the main program.

    graph: its inputs are the arguments, in order; what it captured is computed by the graph around it.
    arguments: of a first stage: what is carried, then what is fed; of another one, what the one before it
    returns.
    results: flat.
    """

    name: str
    graph: ProgramGraph
    arguments: Sequence[Any]
    results: Sequence[Any]


@dataclass
class MainProgram:
    """What the device repeats.

    stages: one, or those of a pipeline.
    infeed_names: of the last arguments of the first stage.
    carried: initial values (tensors of the graph around), of the first arguments of the first stage; the
    first
      results of the only stage are the next ones.
    outfeed_names: of the last results of the last stage.
    """

    iterations: int
    stages: Sequence[TracedStage]
    infeed_names: Sequence[str]
    carried: Sequence[Any]
    outfeed_names: Sequence[str]
    layout: PipelineLayout | None = None


@dataclass
class ProgramBuilder:
    """The program as far as it was traced."""

    graph: ProgramGraph
    main: MainProgram | None = None
    # Of the step that is being traced: what it enqueued, by name; None outside of steps.
    enqueued: dict[str, Any] | None = None
    depth: int = field(default=0)

    def set_main(self, main: MainProgram) -> None:
        if self.main is not None:
            raise ValueError(
                "A program has one main loop or pipeline with feeds, but a second one was found. Put both"
                " into the"
                " body of one loop, or compile them as two programs."
            )
        self.main = main

    def enqueue(self, queue: Any, named: dict[str, Any]) -> None:
        """What an outfeed queue does in a step."""
        if self.enqueued is None or any(
            tensor.graph is not ops.get_default_graph() for tensor in named.values()
        ):
            raise ValueError(
                "The outfeed queue is used outside of the body of the main loop, or in a loop or branch"
                " inside it. What"
                " a program gives out step by step is enqueued by the main loop's body itself."
            )
        if self.enqueued:
            raise ValueError(
                "An outfeed can only be enqueued once in a step, and a program has one outfeed queue:"
                " enqueue a tuple"
                " or a dictionary of tensors."
            )
        self.enqueued.update(named)


_builder: contextvars.ContextVar[ProgramBuilder | None] = contextvars.ContextVar("ipu_program", default=None)


def current_builder() -> ProgramBuilder | None:
    """The program that is being collected, if any."""
    return _builder.get()


@contextlib.contextmanager
def collect(name: str) -> Iterator[ProgramBuilder]:
    """Traces what is done in this scope as a program. The default graph is the program's."""
    builder = ProgramBuilder(ProgramGraph(name))
    token = _builder.set(builder)
    try:
        with builder.graph.as_default():
            yield builder
    finally:
        _builder.reset(token)


def trace_stage(
    builder: ProgramBuilder, name: str, function: Callable[..., Any], arguments: Sequence[tf.TensorSpec]
) -> tuple[TracedStage, Any, dict[str, Any]]:
    """Traces one stage in a graph of its own.

    Args:
      function: is called with a tensor for each argument.

    Returns:
      The stage, whose results are not set; what the function returned; and what it enqueued, by name.
    """
    graph = ProgramGraph(name)
    outer = builder.enqueued
    builder.enqueued = {}
    builder.depth += 1
    try:
        with graph.as_default():
            placeholders = [tf.compat.v1.placeholder(spec.dtype, spec.shape) for spec in arguments]
            graph.inputs = list(placeholders)
            returned = function(*placeholders)
        return TracedStage(name, graph, placeholders, []), returned, builder.enqueued
    finally:
        builder.enqueued = outer
        builder.depth -= 1
