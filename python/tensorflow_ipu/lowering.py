"""From a Python function to HLO: trace -> freeze -> fold -> lower.

    function = trace(predict_step, [tf.TensorSpec([4], tf.float32, "x")], name="predict_step")
    stage = lower(fold(freeze(function)))       # or in one go: lower_function(predict_step, signature, name)
    stage.hlo          serialised xla.HloModuleProto, one parameter for each of stage.inputs, then stage.variables
    stage.inputs       TensorSpecs of the fed parameters, in order; an unused one is still there
    stage.variables    variables that were not frozen; their values are further parameters, in this order
    stage.results      TensorSpecs of the results, in the order in which tf.nest flattens what the function returns
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.eager import context, wrap_function
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.training.saver import export_meta_graph

from tensorflow_ipu import batch_norm_folding
from tensorflow_ipu.errors import SourceLocations, lowering_error


@dataclass(frozen=True)
class TracedFunction:
    """A function traced with a static signature.

    concrete: its concrete function as traced.
    frozen: what is lowered. Variables are constants, or the last inputs when they were not frozen.
    """

    name: str
    concrete: Any
    frozen: Any
    variables: Sequence[tf.Variable]
    locations: SourceLocations

    @property
    def inputs(self) -> list[tf.TensorSpec]:
        """Of the fed parameters."""
        return [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in _fed_inputs(self.concrete)]

    @property
    def results(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in self.concrete.outputs]


@dataclass(frozen=True)
class LoweredFunction:
    """See the top of this file."""

    hlo: bytes
    inputs: Sequence[tf.TensorSpec]
    variables: Sequence[tf.Variable]
    results: Sequence[tf.TensorSpec]


def trace(function: Callable, signature: Sequence[tf.TensorSpec], name: str) -> TracedFunction:
    """Traces a Python function or tf.function.

    Args:
      signature: one TensorSpec for each of the function's tensor parameters, static.
      name: of the function, for messages.

    Raises:
      ValueError: the function returns nothing, or a shape of `signature` is not static.
      TypeError: the function returns something that is no tensor.
    """
    raise NotImplementedError


def freeze(function: TracedFunction, freeze_variables: bool = True) -> TracedFunction:
    """Turns variables and captured tensors into constants; with freeze_variables=False only the latter."""
    raise NotImplementedError


def fold(function: TracedFunction) -> TracedFunction:
    """Evaluates what depends on constants only, and moves batch normalisation into the weights before it."""
    raise NotImplementedError


def lower(function: TracedFunction) -> LoweredFunction:
    """HLO of a frozen function.

    Raises:
      ValueError: an operation without a device kernel or a dynamic shape, named with its Python location.
    """
    raise NotImplementedError


def lower_function(
    function: Callable, signature: Sequence[tf.TensorSpec], name: str, freeze_variables: bool = True
) -> LoweredFunction:
    """All of the above."""
    traced = freeze(trace(function, signature, name), freeze_variables)
    return lower(fold(traced) if freeze_variables else traced)
