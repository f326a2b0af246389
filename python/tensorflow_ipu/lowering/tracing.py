"""Traces a function of the user's with a static signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import polymorphic_function

from tensorflow_ipu.errors import SourceLocations, operations_of

# Those of tfipu.ElementType.
_DEVICE_TYPES = {
    tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.bool, tf.complex64, tf.complex128, tf.int8, tf.int16,
    tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64,
}  # fmt: skip


@dataclass(frozen=True)
class TracedFunction:
    """A function traced with a static signature.

    concrete: its concrete function as traced.
    frozen: what is lowered. Variables are constants, or the last inputs when they were not frozen.
    weights: values of further inputs of `frozen`: large constants that folding took out of the graph.
    """

    name: str
    concrete: Any
    frozen: Any
    variables: Sequence[tf.Variable]
    locations: SourceLocations
    weights: Sequence[np.ndarray] = ()

    @property
    def inputs(self) -> list[tf.TensorSpec]:
        """Of the fed parameters."""
        return [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in _fed_inputs(self.concrete)]

    @property
    def results(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in self.concrete.outputs]


def trace(function: Callable, signature: Sequence[tf.TensorSpec], name: str) -> TracedFunction:
    """Traces a Python function or tf.function.

    Args:
      signature: one TensorSpec for each of the function's tensor parameters, static.
      name: of the function, for messages.

    Raises:
      ValueError: the function returns nothing, or a shape of `signature` is not static.
      TypeError: the function returns something that is no tensor.
    """
    for position, spec in enumerate(signature):
        if not spec.shape.is_fully_defined():
            raise ValueError(
                f"Parameter {position} ('{spec.name or ''}') of `{name}` has the dynamic shape {spec.shape}: "
                "the device needs every dimension to be known when the model is exported."
            )
        if spec.dtype not in _DEVICE_TYPES:
            raise ValueError(
                f"Parameter {position} ('{spec.name or ''}') of `{name}` has the dtype {spec.dtype.name}, "
                "which the device cannot hold. Turn it into numbers in the preprocessing step, which runs on "
                "the CPU."
            )
    concrete = concrete_function(function, signature, name)
    # A function that copies operations of another graph names it: there they know where they were made.
    locations = SourceLocations(getattr(function, "source_graph", concrete.graph))
    _check_no_assignment(concrete.graph, name, locations)
    return TracedFunction(name, concrete, None, (), locations)


def _check_no_assignment(graph: Any, name: str, locations: SourceLocations) -> None:
    handles = {id(variable.handle) for variable in graph.variables}
    captured = {internal.name for external, internal in graph.captures if id(external) in handles}
    for operation in operations_of(graph):
        if operation.type.startswith("Assign") and (
            operation.graph is not graph or {tensor.name for tensor in operation.inputs} & captured
        ):
            raise ValueError(
                f"`{name}` changes a variable in {locations.describe(operation.name, operation.type)}. The "
                "variables of an exported model are constants: call layers that update their state as for "
                "inference (training=False), and make recurrent layers without one (stateful=False)."
            )


def concrete_function(function: Callable, signature: Sequence[tf.TensorSpec], name: str) -> Any:
    """Traces a Python function or tf.function with another signature than its own, if need be.

    Raises:
      ValueError: the function returns nothing.
      TypeError: the function returns something that is no tensor.
    """
    own: Any = function
    autograph = True
    if isinstance(own, polymorphic_function.Function):
        own, autograph = own.python_function, own._autograph
    # Names are not part of what is traced; two parameters may have the same one.
    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in signature]
    concrete = tf.function(own, autograph=autograph).get_concrete_function(*specs)
    if not concrete.outputs:
        raise ValueError(f"`{name}` returns no tensor.")
    for result in tf.nest.flatten(concrete.structured_outputs):
        if not isinstance(result, tf.Tensor):
            raise TypeError(f"`{name}` must return tensors, but it returns a {type(result).__name__}.")
    return concrete


def _fed_inputs(concrete: Any) -> list[tf.Tensor]:
    captured = {id(tensor) for tensor in concrete.graph.internal_captures}
    return [tensor for tensor in concrete.inputs if id(tensor) not in captured]
