"""Collects a program while a function that builds one is traced: its main loop or pipeline, and its feeds.

`loops.repeat`, `loops.while_loop` and `pipelining_ops.pipeline` have two meanings. Inside `collect()`, which
`application_compile_op` uses, the first of them that is fed becomes the main program: its body is traced as
the step that the device repeats, and nothing is built. Everywhere else they build TensorFlow loops, which
run on the host.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function import polymorphic_function
from tensorflow.python.framework import func_graph as func_graph_module
from tensorflow.python.framework import ops

from tensorflow_ipu.lowering.graph_copy import copy_tensors, needed
from tensorflow_ipu.program.layout import PipelineLayout


class ProgramGraph(func_graph_module.FuncGraph):
    """A graph in which a part of a program is traced.

    In graph mode (TensorFlow 1) variables have values in a session only: what is captured of them are the
    results of read operations in the session's graph. In eager mode the variables themselves are captured.
    """

    def __init__(self, name: str) -> None:
        with tf.init_scope():
            eager = tf.executing_eagerly()
        super().__init__(name, capture_by_value=not eager)

    def _capture_by_value(
        self, op_type: str, inputs: Any, dtypes: Any, input_types: Any = None, name: Any = None, *rest: Any
    ) -> Any:
        """Reads a variable in the session's graph, in an operation named as the one here.

        Names differ within a graph, but those of two parts of a program may be the same. Without a slash at
        its end, a name is made unique.
        """
        name = name.removesuffix("/") if name else name
        return super()._capture_by_value(op_type, inputs, dtypes, input_types, name, *rest)

    @contextlib.contextmanager
    def traced(self) -> Iterator[None]:
        """Makes the graph the default one. Afterwards `variables` are those that were read."""
        with self.as_default():
            yield
        self.variables = list(self._watched_variables)


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
        with builder.graph.traced():
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
        with graph.traced():
            placeholders = [tf.compat.v1.placeholder(spec.dtype, spec.shape) for spec in arguments]
            graph.inputs = list(placeholders)
            returned = function(*placeholders)
        return TracedStage(name, graph, placeholders, []), returned, builder.enqueued
    finally:
        builder.enqueued = outer
        builder.depth -= 1


class NotConstant(Exception):
    """A value depends on what is only known when the program is started or run."""


def value_of(tensor: Any, leaves: Mapping[int, Any]) -> Any:
    """The value of a tensor of a program, in the graph that is being traced now.

    Args:
      tensor: of a ProgramGraph, of the session's graph, or an eager one.
      leaves: values of tensors of the session's graph and of eager ones, by id.

    Raises:
      NotConstant: it depends on a tensor of the session's graph that `leaves` does not have.
    """
    if id(tensor) in leaves:
        return leaves[id(tensor)]
    if isinstance(tensor, ops.EagerTensor):
        return tensor
    graph = tensor.graph
    if not isinstance(graph, ProgramGraph):
        constant = tf.get_static_value(tensor)
        if constant is None:
            raise NotConstant(tensor.name)
        return tf.constant(constant, tensor.dtype)
    for outer, inner in graph.captures:
        if inner is tensor:
            return value_of(outer, leaves)
    return copy_tensors(graph, [tensor], {}, capture_into_trace(graph, leaves))[0]


def capture_into_trace(graph: ProgramGraph, leaves: Mapping[int, Any]) -> Callable[[Any], Any]:
    """Gives the values of what `graph` captured, variables included, in the graph that is being traced
    now."""
    variables = {id(variable.handle): variable for variable in graph.variables}

    def capture(outer: Any) -> Any:
        if id(outer) in variables:
            here = ops.get_default_graph()
            here.watch_variable(variables[id(outer)])
            return here.capture(outer)
        return value_of(outer, leaves)

    return capture


def outer_tensors(tensors: Sequence[Any]) -> list[Any]:
    """What lies outside of all ProgramGraphs and `tensors` depend on, each once: in graph mode tensors of the
    session's graph, in eager mode eager tensors, except handles of variables."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    waiting = list(tensors)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if isinstance(tensor, ops.EagerTensor) or not isinstance(tensor.graph, ProgramGraph):
            if tensor.dtype != tf.resource:
                found[id(tensor)] = tensor
            continue
        captured = {inner.op.name: outer for outer, inner in tensor.graph.captures}
        for operation in needed([tensor], {}):
            if operation.name in captured:
                waiting.append(captured[operation.name])
    return list(found.values())


def constant_value(tensor: Any) -> Any:
    """The value of a tensor of a program that depends on constants only, as an array.

    Raises:
      NotConstant: it depends on more.
    """
    with context.eager_mode():
        return run_once(lambda: value_of(tensor, {})).numpy()


def run_once(function: Callable[[], Any]) -> Any:
    """Traces a function and runs it. (To call a tf.function would count as a retracing of all made here.)"""
    return tf.function(function, autograph=False).get_concrete_function()()


def runs_at_once() -> bool:
    """Whether operations run by themselves (TensorFlow 2), be it inside of a tf.function."""
    with tf.init_scope():
        return tf.executing_eagerly()


def runs_later(operation: Any) -> Any:
    """An operation that has to be run or depended on (TensorFlow 1); None where operations run by
    themselves."""
    return None if runs_at_once() else operation


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function to be called in the trace of a program, if there is one: of a tf.function, what it would
    trace.

    Called as it is, a tf.function would trace in a graph of its own, where the parts of a program (main loop,
    feeds) are not those of the program's graph.
    """
    if current_builder() is None or not isinstance(function, polymorphic_function.Function):
        return function
    if not function._autograph:
        return function.python_function
    return tf.__internal__.autograph.tf_convert(
        function.python_function, tf.__internal__.autograph.control_status_ctx(), user_requested=True
    )
