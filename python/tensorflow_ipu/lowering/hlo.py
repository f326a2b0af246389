"""Lowers a frozen function to HLO."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2
from tensorflow.python.eager import context

from tensorflow_ipu.errors import SourceLocations, lowering_error
from tensorflow_ipu.lowering.folding import fold
from tensorflow_ipu.lowering.freezing import freeze
from tensorflow_ipu.lowering.tracing import TracedFunction, trace
from tensorflow_ipu.lowering.weights import put_weights_in


@dataclass(frozen=True)
class LoweredFunction:
    """See the top of the package."""

    hlo: bytes
    inputs: Sequence[tf.TensorSpec]
    variables: Sequence[tf.Variable]
    results: Sequence[tf.TensorSpec]


def lower(function: TracedFunction) -> LoweredFunction:
    """HLO of a frozen function.

    Raises:
      ValueError: an operation without a device kernel or a dynamic shape, named with its Python location.
    """
    frozen = function.frozen
    specs = function.inputs
    context.ensure_initialized()
    try:
        hlo = context.context().get_compiler_ir(
            device_name=None,
            platform_name="CPU",
            function_name=frozen.name,
            flat_args=[*specs, *(tf.TensorSpec(weight.shape, weight.dtype) for weight in function.weights)],
            captured_inputs=[variable.handle for variable in function.variables],
            stage="hlo_serialized",
        )
    except (ValueError, tf.errors.OpError) as error:
        raise lowering_error(error, function.name, function.locations) from None
    module = hlo_pb2.HloModuleProto.FromString(hlo)
    results = _results(module, function)
    if function.weights:  # their parameters are the last ones: a folded function has no variables
        put_weights_in(module, len(specs), function.weights)
    _forget_origin(module, function.name)
    return LoweredFunction(module.SerializeToString(deterministic=True), specs, function.variables, results)


def lower_function(
    function: Callable, signature: Sequence[tf.TensorSpec], name: str, freeze_variables: bool = True
) -> LoweredFunction:
    """Traces, freezes, folds (when variables are frozen) and lowers a function."""
    traced = freeze(trace(function, signature, name), freeze_variables)
    return lower(fold(traced) if freeze_variables else traced)


def _results(module: Any, function: TracedFunction) -> list[tf.TensorSpec]:
    """The static shapes of the results.

    Raises:
      ValueError: one of them depends on data.
    """
    shape = module.host_program_shape.result
    shapes = list(shape.tuple_shapes) if shape.element_type == xla_data_pb2.TUPLE else [shape]
    for position, result in enumerate(shapes):
        if any(result.is_dynamic_dimension):
            raise ValueError(
                f"`{function.name}` has a dynamic shape: the shape of its result {position} depends on data, "
                f"because of {_dynamic_operation(module, function.locations)}. On the device every shape is "
                "known when the model is exported: use a variant of the operation that pads to a fixed size, "
                "or move it into the postprocessing step, which runs on the CPU."
            )
    return [
        tf.TensorSpec(list(result.dimensions), tensor.dtype)
        for result, tensor in zip(shapes, function.concrete.outputs, strict=True)
    ]


def _dynamic_operation(module: Any, locations: SourceLocations) -> str:
    """The first operation whose shape depends on data. Instructions of a computation are in order of
    execution."""
    for computation in module.computations:
        if computation.id != module.entry_computation_id:
            continue
        for instruction in computation.instructions:
            if any(instruction.shape.is_dynamic_dimension) and instruction.metadata.op_name:
                return locations.describe(instruction.metadata.op_name, instruction.metadata.op_type)
    return "an operation in a called function"


def _forget_origin(module: Any, name: str) -> None:
    """Takes out what depends on the process and the machine of the export, so that one model has one
    executable: counters in names, and paths of source files."""
    module.name = re.sub(r"\W+", "_", name)
    module.ClearField("id")
    module.ClearField("stack_frame_index")
    for position, computation in enumerate(module.computations):
        computation.name = f"computation.{position}"
        if computation.id == module.entry_computation_id:
            module.entry_computation_name = computation.name
        for instruction in computation.instructions:
            metadata = instruction.metadata
            if metadata.source_file or metadata.stack_frame_id:
                instruction.metadata.CopyFrom(
                    type(metadata)(op_name=metadata.op_name, op_type=metadata.op_type)
                )
