"""From a Python function to HLO: trace -> freeze -> fold -> lower.

function = trace(predict_step, [tf.TensorSpec([4], tf.float32, "x")], name="predict_step")
stage = lower(fold(freeze(function)))       # or in one go: lower_function(predict_step, signature, name)
stage.hlo          serialised xla.HloModuleProto, one parameter for each of stage.inputs, then stage.variables
stage.inputs       TensorSpecs of the fed parameters, in order; an unused one is still there
stage.variables    variables that were not frozen; their values are further parameters, in this order
stage.results      TensorSpecs of the results, in the order in which tf.nest flattens what the function
returns
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.eager import context, wrap_function
from tensorflow.python.eager.polymorphic_function import polymorphic_function
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.grappler import tf_optimizer

from tensorflow_ipu.batch_norm_folding import fold_batch_norm
from tensorflow_ipu.errors import SourceLocations, lowering_error, operations_of
from tensorflow_ipu.weight_lifting import put_weights_in, take_weights_out

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
                "variables of an exported model are constants; a layer that updates its state must be called "
                "as for inference (training=False)."
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


def freeze(function: TracedFunction, freeze_variables: bool = True) -> TracedFunction:
    """Turns variables and captured tensors into constants; with freeze_variables=False only the latter."""
    frozen, kept = freeze_concrete(function.concrete, freeze_variables)
    by_handle = {id(variable.handle): variable for variable in function.concrete.graph.variables}
    for tensor in kept:
        if id(tensor) not in by_handle:
            raise ValueError(
                f"`{function.name}` uses a resource that is no variable, such as a lookup table, for which "
                "the device has no kernel. Move it into the preprocessing or postprocessing step, which run "
                "on the CPU."
            )
    return replace(function, frozen=frozen, variables=tuple(by_handle[id(tensor)] for tensor in kept))


def freeze_concrete(concrete: Any, freeze_variables: bool = True) -> tuple[Any, list[tf.Tensor]]:
    """A copy of a concrete function in which captured tensors, and variables if wished, are constants.

    Returns the copy, and the captured tensors that it still needs, as further inputs behind the fed ones:
    resources
    other than variables, and handles of the variables when these are not frozen. The copy calls nothing that
    changes later.
    """
    # A table's initialiser is no part of the function; freezing would stumble over it.
    concrete.graph.clear_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS)
    handles = {id(variable.handle) for variable in concrete.graph.variables}
    skipped = [
        name.name.split(":")[0]
        for captured, name in concrete.graph.captures
        if captured.dtype == tf.resource and not (freeze_variables and id(captured) in handles)
    ]
    # What convert_variables_to_constants_v2 does, which does not let variables be left out.
    data = convert_to_constants._FunctionConverterDataInEager(
        func=concrete, lower_control_flow=False, aggressive_inlining=False, variable_names_denylist=skipped
    )
    graph_def, converted = convert_to_constants._replace_variables_by_constants(data)
    frozen = convert_to_constants._construct_concrete_function(concrete, graph_def, converted)
    return frozen, [
        captured for captured, name in concrete.graph.captures if name.name.split(":")[0] in set(skipped)
    ]


def fold(function: TracedFunction) -> TracedFunction:
    """Evaluates what depends on constants only, and moves batch normalisation into the weights before it."""
    frozen = function.frozen
    inputs = [tensor.name for tensor in frozen.inputs]
    outputs = [tensor.name for tensor in frozen.outputs]
    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=frozen.graph.as_graph_def())
    meta_graph.collection_def["train_op"].node_list.value.extend([*inputs, *outputs])
    config = config_pb2.ConfigProto()
    # Nothing but constant folding: other optimisers make operations that only TensorFlow's kernels know.
    config.graph_options.rewrite_options.optimizers.append("constfold")
    config.graph_options.rewrite_options.min_graph_nodes = -1
    graph_def = tf_optimizer.OptimizeGraph(config, meta_graph)
    # Bodies of control flow stay as they are: TensorFlow knows them by their names already.
    graph_def.library.CopyFrom(meta_graph.graph_def.library)
    graph_def = fold_batch_norm(graph_def, [name.split(":")[0] for name in outputs])
    weights = take_weights_out(graph_def)
    frozen = wrap_function.function_from_graph_def(
        graph_def, [*inputs, *(f"{name}:0" for name in weights)], outputs
    )
    return replace(function, frozen=frozen, weights=list(weights.values()))


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
    """All of the above."""
    traced = freeze(trace(function, signature, name), freeze_variables)
    return lower(fold(traced) if freeze_variables else traced)


def _fed_inputs(concrete: Any) -> list[tf.Tensor]:
    captured = {id(tensor) for tensor in concrete.graph.internal_captures}
    return [tensor for tensor in concrete.inputs if id(tensor) not in captured]


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
