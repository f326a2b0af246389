"""What a Keras model (of Keras 3 or tf_keras) is made of: its kind, its layers and the order they run in."""

from __future__ import annotations

import sys
from typing import Any

import tensorflow as tf

from tensorflow_ipu import ipu_strategy


def is_layer(operation: Any) -> bool:
    """Whether it is a layer that computes something, rather than an input or a bare operation."""
    return type(operation).__name__ != "InputLayer" and hasattr(operation, "trainable_weights")


def is_bare_operation(layer: Any) -> bool:
    """Whether it is the layer that tf_keras makes of an operation on a tensor of a functional model."""
    return type(layer).__name__ in ("TFOpLambda", "SlicingOpLambda")


def is_model(layer: Any) -> bool:
    """Whether the layer is a model."""
    return hasattr(layer, "fit")


def made_in_ipu_strategy(model: Any) -> bool:
    """Whether the model was made inside the scope of an IPU strategy."""
    # Of Keras 3 and of tf_keras. Their property gives the strategy that is current when there was none.
    strategy = getattr(model, "_distribute_strategy", None) or getattr(model, "_distribution_strategy", None)
    return isinstance(strategy, ipu_strategy.IPUStrategyV1) and strategy.enable_keras_extensions


def is_nested_model(layer: Any) -> bool:
    """Whether the layers inside it have pipeline stages of their own, once it is a layer of another model."""
    return is_model(layer) and made_in_ipu_strategy(layer)


def model_kind(model: Any) -> str:
    """ "sequential", "functional" or "subclassed"."""
    names = {base.__name__ for base in type(model).__mro__}
    if "Sequential" in names:
        return "sequential"
    return "subclassed" if functional_nodes(model) is None else "functional"


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
        if not node.is_input and operation_of(node) is not None
    ]


def operation_of(node: Any) -> Any:
    """The layer, or in Keras 3 the bare operation, whose call the node is."""
    return getattr(node, "operation", None) or getattr(node, "layer", None)


def all_layers(model: Any) -> list[Any]:
    """The model and all layers inside it, at any depth."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def is_symbolic(values: Any) -> bool:
    """Whether a tensor among the values stands for an input or a result of a functional model."""
    keras, tf_keras = sys.modules.get("keras"), sys.modules.get("tf_keras")
    kinds = [getattr(keras, "KerasTensor", None)]
    kinds.append(getattr(getattr(tf_keras, "__internal__", None), "KerasTensor", None))
    symbolic = tuple(kind for kind in kinds if kind is not None)
    return any(isinstance(value, symbolic) for value in tf.nest.flatten(values))
