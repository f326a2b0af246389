"""Takes a traced graph apart into pipeline stages, by the stage its operations carry.

An operation without a stage of its own belongs to the latest stage it takes anything from. One that takes
nothing from any stage (a constant, a variable's value, arithmetic on the inputs) becomes part of each stage
that needs it, unless repeating it could give something else; then it belongs to stage 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops

from tensorflow_ipu.keras.model_trace import LAYER_ATTRIBUTE, STAGE_ATTRIBUTE
from tensorflow_ipu.lowering.graph_copy import copy_tensors

_READS = frozenset(["ReadVariableOp", "VarHandleOp", "ResourceGather", "ResourceGatherNd", "Placeholder"])


def split(
    graph: Any, inputs: Sequence[Any], outputs: Sequence[Any], stages: Iterable[int] = ()
) -> list[Callable[..., Any]]:
    """Splits a FuncGraph into functions that are called one after the other.

    Args:
      graph: the graph. Its captures (variables, constants) may be used by any stage.
      inputs: the placeholders that are fed.
      outputs: the tensors that are wanted.
      stages: those that there are besides the stages that operations carry: layers may make no operations.

    Returns:
      A function for each stage, traceable again. The first takes `inputs`, each other one what the one before
      it returns, and the last returns `outputs`. What a later stage needs is passed through those in between.

    Raises:
      ValueError: stages are missing in between, or an operation takes something from a later stage.
    """
    stage_of = assign(graph, inputs)
    given = {*stages, *(stage for stage in stage_of.values() if stage is not None)}
    count = 1 + max(given, default=0)
    missing = sorted(set(range(count)) - given)
    if missing:
        raise ValueError(
            "Pipeline stage assignments must start at 0 and be strictly increasing. The highest assignment "
            f"is stage {count - 1}, however the preceding stages {missing} had no assignments."
        )

    # From the last stage back: what a stage must return is what those behind it take.
    wanted = list(outputs)
    functions = []
    for stage in reversed(range(count)):
        taken = _needs(stage, wanted, stage_of, {id(tensor) for tensor in inputs})
        if stage == 0:
            taken = list(inputs)
        functions.append(_copier(graph, taken, wanted))
        wanted = taken
    return functions[::-1]


def assign(graph: Any, inputs: Sequence[Any]) -> dict[str, int | None]:
    """The stage of each operation; None for those that become part of each stage that needs them.

    Raises:
      ValueError: an operation takes something from a later stage.
    """
    fed = {tensor.op.name for tensor in inputs}
    stage_of: dict[str, int | None] = {}
    for operation in graph.get_operations():
        earlier = [(stage_of.get(tensor.op.name), tensor.op) for tensor in operation.inputs]
        latest = max((stage for stage, _ in earlier if stage is not None), default=None)
        own = _marked(operation)
        if operation.name in fed or operation.type in _READS or operation.type == "Const":
            stage_of[operation.name] = None
        elif own is not None:
            if latest is not None and latest > own:
                source = next(source for stage, source in earlier if stage == latest)
                raise ValueError(
                    f"{_described(operation)} in pipeline stage {own} has a dependency from a pipeline stage "
                    f"which has not yet been executed: it takes the result of {_described(source)}, which is "
                    f"in pipeline stage {latest}. Layers can only use outputs from current or previous "
                    "pipeline stages."
                )
            stage_of[operation.name] = own
        elif latest is not None:
            stage_of[operation.name] = latest
        else:
            stage_of[operation.name] = 0 if operation._is_stateful else None
    return stage_of


def _marked(operation: Any) -> int | None:
    try:
        return int(operation.get_attr(STAGE_ATTRIBUTE))
    except ValueError:
        return None


def _described(operation: Any) -> str:
    try:
        return f"Layer {operation.get_attr(LAYER_ATTRIBUTE).decode()}"
    except ValueError:
        return f"Operation '{operation.name}'"


def _needs(stage: int, wanted: Sequence[Any], stage_of: dict[str, int | None], fed: set[int]) -> list[Any]:
    """The tensors from outside that a stage takes, each once."""
    taken: dict[int, Any] = {}
    seen: set[str] = set()
    waiting = list(reversed(wanted))
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in fed or stage_of[tensor.op.name] not in (stage, None):
            taken.setdefault(id(tensor), tensor)
        elif tensor.op.name not in seen:
            seen.add(tensor.op.name)
            waiting.extend(reversed(tensor.op.inputs))
    return list(taken.values())


def _copier(graph: Any, arguments: Sequence[Any], results: Sequence[Any]) -> Callable[..., Any]:
    """A function that computes `results` from `arguments` by a copy of that part of the graph."""
    variables = {id(variable.handle): variable for variable in graph.variables}

    @tf.autograph.experimental.do_not_convert
    def stage(*values: Any) -> list[Any]:
        here = ops.get_default_graph()

        def capture(outer: Any) -> Any:
            if id(outer) in variables:
                here.watch_variable(variables[id(outer)])
            return here.capture(outer)

        given = {id(tensor): value for tensor, value in zip(arguments, values, strict=True)}
        return copy_tensors(graph, results, given, capture)

    stage.source_graph = graph  # for messages: lowering.trace()
    return stage
