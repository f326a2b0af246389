"""Copies a part of a traced graph into the graph that is being traced now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import importer


def needed(results: Sequence[Any], given: Mapping[int, Any] | set[int]) -> list[Any]:
    """The operations that `results` depend on, up to the tensors whose ids are in `given`."""
    found: dict[str, Any] = {}
    waiting = list(results)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in given and tensor.op.name not in found:
            found[tensor.op.name] = tensor.op
            waiting.extend(tensor.op.inputs)
    return list(found.values())


def copy_tensors(
    graph: Any, results: Sequence[Any], given: Mapping[int, Any], capture: Callable[[Any], Any]
) -> list[Any]:
    """Tensors of the graph that is being traced, with the values of `results`.

    Args:
      graph: FuncGraph of the results.
      given: what takes the place of tensors of `graph`, by their ids; nothing behind them is copied.
      capture: gives the value of a tensor that `graph` captured from outside.
    """
    captured = {inner.op.name: outer for outer, inner in graph.captures}
    operations = needed(results, given)
    inside = {operation.name for operation in operations}
    definition = graph.as_graph_def()
    nodes = [node for node in definition.node if node.name in inside and node.name not in captured]
    del definition.node[:]
    for node in nodes:
        data = [name for name in node.input if not name.startswith("^")]
        control = [name for name in node.input if name.startswith("^") and name[1:] in inside - set(captured)]
        del node.input[:]
        node.input.extend(data + control)
        node.attr.pop("_class", None)  # may name an operation that is not copied
        node.device = ""
    definition.node.extend(nodes)

    values = {}
    for operation in operations:
        for tensor in operation.inputs:
            if id(tensor) in given:
                values[tensor.name] = given[id(tensor)]
    for tensor in results:
        if id(tensor) in given:
            values[tensor.name] = given[id(tensor)]
    for name in inside & set(captured):
        values[f"{name}:0"] = capture(captured[name])

    used = {name if ":" in name else f"{name}:0" for node in nodes for name in node.input}
    made = [tensor.name for tensor in results if tensor.name not in values]
    copies = importer.import_graph_def(
        definition,
        input_map={name: tf.convert_to_tensor(value) for name, value in values.items() if name in used},
        return_elements=made,
        name="",
    )
    copied = dict(zip(made, copies, strict=True))
    return [
        copied[tensor.name] if tensor.name in copied else tf.identity(values[tensor.name])
        for tensor in results
    ]
