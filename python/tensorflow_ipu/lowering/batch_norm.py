"""Moves per-channel scales and offsets into the weights of the convolution or matrix product before them.

What a network does behind a convolution with constants of one value per channel (its bias, batch
normalisation, which constant folding turns into a multiplication and an addition) is a linear function of
each channel. The scale goes into the weights, the offset becomes one bias:

    Conv2D(x, W) * s + t  ->  BiasAdd(Conv2D(x, W * s), t)

Only float32 is rewritten: in narrower types the product of two rounded numbers is not the rounded product.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

_LINEAR = {"Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul"}


@dataclass
class _Affine:
    """channel -> scale * channel + offset, in double precision."""

    scale: np.ndarray
    offset: np.ndarray

    def then(self, scale: np.ndarray | float, offset: np.ndarray | float) -> _Affine:
        return _Affine(self.scale * scale, self.offset * scale + offset)


def fold_batch_norm(graph_def: Any, keep: Iterable[str]) -> Any:
    """Rewrites a GraphDef in place and returns it.

    Args:
      graph_def: its constants are folded already.
      keep: names of nodes whose results are fetched.
    """
    graph = _Graph(graph_def, set(keep))
    for node in list(graph_def.node):
        if node.op in _LINEAR and _attribute(node, "T").type == tf.float32.as_datatype_enum:
            _fold_into(graph, node)
    del graph_def.node[:]
    graph_def.node.extend(graph.live_nodes())
    return graph_def


class _Graph:
    def __init__(self, graph_def: Any, keep: set[str]) -> None:
        self.keep = keep
        self.nodes = {node.name: node for node in graph_def.node}
        self.consumers: dict[str, list[Any]] = {}
        for node in graph_def.node:
            for name in node.input:
                self.consumers.setdefault(_producer(name), []).append(node)

    def only_consumer(self, node: Any) -> Any | None:
        """The node that alone reads the first result of `node`."""
        consumers = self.consumers.get(node.name, [])
        if len(consumers) != 1 or node.name in self.keep:
            return None
        consumer = consumers[0]
        uses = [name for name in consumer.input if _producer(name) == node.name]
        plain = uses == [node.name] or uses == [f"{node.name}:0"]
        return consumer if plain and not any(name.startswith("^") for name in consumer.input) else None

    def constant(self, name: str) -> np.ndarray | None:
        node = self.nodes.get(name.removesuffix(":0"))
        while node is not None and node.op == "Identity":
            node = self.nodes.get(node.input[0].removesuffix(":0"))
        if node is None or node.op != "Const":
            return None
        return tf.make_ndarray(node.attr["value"].tensor)

    def add_constant(self, name: str, value: np.ndarray) -> str:
        while name in self.nodes:
            name += "_"
        node = tf.compat.v1.NodeDef(name=name, op="Const")
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.float32))
        self.nodes[name] = node
        return name

    def live_nodes(self) -> list[Any]:
        """What the fetched nodes need, and every placeholder."""
        live: set[str] = set()
        waiting = [name for name in self.nodes if name in self.keep or self.nodes[name].op == "Placeholder"]
        while waiting:
            name = waiting.pop()
            if name not in live:
                live.add(name)
                waiting.extend(_producer(source) for source in self.nodes[name].input)
        return [node for name, node in self.nodes.items() if name in live]


def _producer(name: str) -> str:
    return name.lstrip("^").split(":")[0]


def _attribute(node: Any, name: str) -> Any:
    """The attribute's value, empty when not set. Reading node.attr[name] would set it."""
    return node.attr[name] if name in node.attr else attr_value_pb2.AttrValue()


def _fold_into(graph: _Graph, linear: Any) -> None:
    if _attribute(linear, "data_format").s not in (b"", b"NHWC", b"NDHWC") or len(linear.input) != 2:
        return
    weights = graph.constant(linear.input[1])
    if weights is None:
        return
    channels = _channels(linear, weights)
    rank = {"Conv3D": 5, "MatMul": 2}.get(linear.op, 4)
    affine = _Affine(np.ones(channels), np.zeros(channels))
    chain: list[Any] = []
    end = linear
    while (consumer := graph.only_consumer(end)) is not None:
        following = _applied(graph, affine, consumer, end, channels, rank)
        if following is None:
            break
        affine, end = following, consumer
        chain.append(consumer)
    if len(chain) < 1 or (len(chain) == 1 and chain[0].op in ("BiasAdd", "AddV2", "Add")):
        return  # nothing that one bias is not already
    if not (np.all(np.isfinite(affine.scale)) and np.all(np.isfinite(affine.offset))):
        return
    linear.input[1] = graph.add_constant(
        f"{linear.name}/folded_weights", _scaled(linear, weights, affine.scale)
    )
    bias = graph.add_constant(f"{linear.name}/folded_bias", affine.offset)
    # The last node of the chain keeps its name, which others and the fetches refer to.
    end.op = "BiasAdd"
    del end.input[:]
    end.input.extend([linear.name, bias])
    end.attr.clear()
    end.attr["T"].type = tf.float32.as_datatype_enum


def _channels(linear: Any, weights: np.ndarray) -> int:
    if linear.op == "DepthwiseConv2dNative":
        return weights.shape[2] * weights.shape[3]
    return (
        weights.shape[0]
        if linear.op == "MatMul" and _attribute(linear, "transpose_b").b
        else weights.shape[-1]
    )


def _scaled(linear: Any, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    if linear.op == "DepthwiseConv2dNative":
        scale = scale.reshape(weights.shape[2:])
    elif linear.op == "MatMul" and _attribute(linear, "transpose_b").b:
        scale = scale[:, np.newaxis]
    return (weights.astype(np.float64) * scale).astype(np.float32)


def _applied(
    graph: _Graph, affine: _Affine, node: Any, source: Any, channels: int, rank: int
) -> _Affine | None:
    """What `affine` becomes behind `node`, or None when the node is not linear in each channel."""
    if node.op == "Identity":
        return affine
    if node.op == "FusedBatchNormV3":
        return _applied_batch_norm(graph, affine, node, source)
    if node.op not in ("BiasAdd", "AddV2", "Add", "Sub", "Mul") or len(node.input) != 2:
        return None
    if node.op == "BiasAdd" and _attribute(node, "data_format").s not in (b"", b"NHWC"):
        return None
    first = _producer(node.input[0]) == source.name
    value = _per_channel(graph.constant(node.input[1 if first else 0]), channels, rank)
    if value is None:
        return None
    if node.op == "Mul":
        return affine.then(value, 0.0)
    if node.op == "Sub":
        return affine.then(1.0, -value) if first else affine.then(-1.0, value)
    return affine.then(1.0, value)


def _per_channel(value: np.ndarray | None, channels: int, rank: int) -> np.ndarray | None:
    """A constant that is broadcast along everything but the channels, as [channels] or a scalar."""
    if value is None or value.ndim > rank or any(size != 1 for size in value.shape[:-1]):
        return None
    if value.size not in (1, channels):
        return None
    return (
        value.astype(np.float64).reshape(-1)
        if value.size == channels
        else value.astype(np.float64).reshape(())
    )


def _applied_batch_norm(graph: _Graph, affine: _Affine, node: Any, source: Any) -> _Affine | None:
    if _attribute(node, "is_training").b or _attribute(node, "data_format").s not in (b"", b"NHWC", b"NDHWC"):
        return None
    if _producer(node.input[0]) != source.name:
        return None
    constants = [graph.constant(name) for name in node.input[1:]]
    if any(constant is None for constant in constants):
        return None
    gamma, beta, mean, variance = (np.asarray(constant, np.float64) for constant in constants)
    scale = gamma / np.sqrt(variance + _attribute(node, "epsilon").f)
    return affine.then(scale, beta - mean * scale)
