"""The pipeline stages of the layers of a model: what `get_`, `set_` and `reset_pipeline_stage_assignment()`
do.

`set_` keeps a stage for each layer call, and for each call of a nested model those of the calls inside it.
They replace the stages that scopes and the nested model's own assignment give.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from tensorflow_ipu.keras import graph_stages, layer_calls, model_inputs, model_structure, model_trace
from tensorflow_ipu.keras.model_inputs import ModelInputs
from tensorflow_ipu.keras.model_structure import model_kind
from tensorflow_ipu.keras.model_trace import (
    STAGE_ATTRIBUTE,
    LayerCall,
    ModelTrace,
    StageTree,
    assigned_stages,
)
from tensorflow_ipu.keras.pipeline_stage import is_stage
from tensorflow_ipu.keras.stage_assignment import (
    FunctionalLayerPipelineStageAssignment,
    FunctionalNestedModelPipelineStageAssignment,
    ModelLayerPipelineStageAssignment,
    NestedModelPipelineStageAssignment,
    SequentialLayerPipelineStageAssignment,
    SequentialNestedModelPipelineStageAssignment,
)

# The classes of assignments in a model of a kind: for layers and for nested models.
_CLASSES: dict[str, tuple[type, type]] = {
    "sequential": (SequentialLayerPipelineStageAssignment, SequentialNestedModelPipelineStageAssignment),
    "functional": (FunctionalLayerPipelineStageAssignment, FunctionalNestedModelPipelineStageAssignment),
    "subclassed": (ModelLayerPipelineStageAssignment, NestedModelPipelineStageAssignment),
}


def is_pipelined(model: Any) -> bool:
    """Whether a layer of the model was assigned to a stage: outside of `call`, in which a trace finds out."""
    if getattr(model, "_ipu_stage_assignment", None) is not None:
        return bool(assigned_stages(model))
    nodes = model_structure.functional_nodes(model) or []
    if any(hasattr(node, STAGE_ATTRIBUTE) for node in nodes):
        return True
    children = [*getattr(model, "layers", [])]
    if any(hasattr(child, STAGE_ATTRIBUTE) for child in children):
        return True
    return any(is_pipelined(child) for child in children if hasattr(child, "layers"))


def may_be_pipelined(model: Any) -> bool:
    """False when the model is not a pipeline for sure: nothing is assigned, and no model is subclassed."""
    if getattr(model, "_ipu_stage_assignment", None) is not None:
        return is_pipelined(model)
    return is_pipelined(model) or any(
        model_structure.is_model(layer) and model_kind(layer) == "subclassed"
        for layer in model_structure.all_layers(model)
    )


def stage_functions(model: Any, inputs: ModelInputs) -> list[Callable]:
    """A function for each stage of the pipeline, or none when the model turns out to have no stage.

    Raises:
      ValueError: a layer has no stage, a stage is left out or takes something from a later one, or there is
        only one.
    """
    if not is_pipelined(model) and not _trace(model, inputs)[1].stages:
        return []
    concrete, trace = _trace(model, inputs, all_assigned=True)
    taken = concrete.inputs[: len(inputs.signature)]
    stages = graph_stages.split(concrete.graph, taken, concrete.outputs, trace.stages)
    if len(stages) < 2:
        raise ValueError(
            f"All layers of the model '{model.name}' are assigned to pipeline stage 0. A pipeline has at "
            "least two stages; without assignments the model is exported as a single step."
        )
    return stages


def _trace(
    model: Any, inputs: model_inputs.ModelInputs, all_assigned: bool = False
) -> tuple[Any, ModelTrace]:
    traces: list[ModelTrace] = []

    @tf.autograph.experimental.do_not_convert
    def traced(*tensors: tf.Tensor) -> Any:
        result, trace = model_trace.trace_to_graph(model, lambda: inputs.arguments(tensors), all_assigned)
        traces.append(trace)
        return result

    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in inputs.signature]
    return tf.function(traced).get_concrete_function(*specs), traces[0]


def get_assignment(model: Any) -> list[Any]:
    """See model_methods.get_pipeline_stage_assignment()."""
    return _assignments(model, _calls(model))


def _assignments(model: Any, calls: Sequence[LayerCall]) -> list[Any]:
    kind = model_kind(model)
    layer_class, nested_class = _CLASSES[kind]
    result = []
    for call in calls:
        position = () if kind == "sequential" else (call.node_index,)
        if call.calls is None:
            item = layer_class(call.layer, *position, call.stage)
        else:
            item = nested_class(call.layer, *position, _assignments(call.layer, call.calls))
        if kind == "subclassed":
            item._inbound_layers = list(call.inbound_layers)
        result.append(item)
    return result


# The calls of a model's layers, with their stages


def _calls(model: Any) -> list[LayerCall]:
    kind = model_kind(model)
    if kind == "sequential":
        found = [_declared_call(layer, 0, None) for layer in model.layers]
    elif kind == "functional":
        found = [_declared_call(*call) for call in _functional_calls(model)]
    else:
        found = _subclassed_calls(model)
    if getattr(model, "_ipu_stage_assignment", None) is None:
        return found
    return [_assigned(call, assigned_stages(model)) for call in found]


def _functional_calls(model: Any) -> Iterator[tuple[Any, int, Any]]:
    """Layer, node index and node of each layer call, in the order in which they run."""
    for node in model_structure.functional_nodes(model) or []:
        layer = model_structure.operation_of(node)
        if model_structure.is_layer(layer):
            yield layer, layer._inbound_nodes.index(node), node


def _declared_call(layer: Any, node_index: int, node: Any) -> LayerCall:
    stage = getattr(node, STAGE_ATTRIBUTE, getattr(layer, STAGE_ATTRIBUTE, None))
    if not model_structure.is_nested_model(layer):
        return LayerCall(layer, node_index, stage)
    inside = tuple(_within(call, stage) for call in _calls(layer))
    return LayerCall(layer, node_index, stage, inside)


def _within(call: LayerCall, stage: int | None) -> LayerCall:
    """A call inside a model that belongs to the stage: it has this stage where it has none of its own."""
    if call.calls is not None:
        return replace(call, calls=tuple(_within(inner, stage) for inner in call.calls))
    return call if call.stage is not None else replace(call, stage=stage)


def _assigned(call: LayerCall, stages: StageTree) -> LayerCall:
    """The call with the stages that `set_pipeline_stage_assignment()` gave it."""
    given = stages.get((id(call.layer), call.node_index))
    if call.calls is None:
        return replace(call, stage=given)
    return replace(call, calls=tuple(_assigned(inner, given or {}) for inner in call.calls))


def _subclassed_calls(model: Any) -> list[LayerCall]:
    if not model.built and layer_calls.called_with(model) is None:
        raise RuntimeError(
            f"Cannot get pipeline stage assignments for model `{model.name}` which has not been built yet. "
            "Call `build()` with the shapes of its inputs first."
        )
    inputs = model_inputs.describe(model, any_batch=True)
    layer_calls.build(model, inputs.structure)
    return _trace(model, inputs)[1].calls


# Assigning


def set_assignment(model: Any, given: Any) -> None:
    """See model_methods.set_pipeline_stage_assignment()."""
    calls = _calls(model)
    tree = _tree(model, given, calls)
    if model_kind(model) == "sequential" and all(call.calls is None for call in calls):
        _check_sequence(calls, list(tree.values()))
    _check_none_is_missing(list(_stages(tree)))
    before = getattr(model, "_ipu_stage_assignment", None)
    object.__setattr__(model, "_ipu_stage_assignment", tree)
    try:
        _check_order(model)
    except ValueError:
        object.__setattr__(model, "_ipu_stage_assignment", before)
        raise


def reset_assignment(model: Any) -> None:
    """See model_methods.reset_pipeline_stage_assignment()."""
    object.__setattr__(model, "_ipu_stage_assignment", {})


def _tree(model: Any, given: Any, calls: Sequence[LayerCall]) -> StageTree:
    """Checks assignments against the calls of a model."""
    if not isinstance(given, (list, tuple)):
        raise ValueError(
            f"`pipeline_stage_assignment` needs to be a list, but a {type(given).__name__} was given."
        )
    if len(given) != len(calls):
        raise ValueError(
            f"The length of the provided `pipeline_stage_assignment` ({len(given)}) does not match the "
            f"number of layers in the graph ({len(calls)}). Each layer needs to be assigned a pipeline "
            "stage, and each call of a layer in models that are not Sequential (excluding input layers): "
            f"this is about the model '{model.name}'."
        )
    kind = model_kind(model)
    tree: StageTree = {}
    for position, (item, call) in enumerate(zip(given, calls, strict=True)):
        if kind == "sequential" and is_stage(item):
            stages: Any = _all_in(call, operator.index(item))
        else:
            _check_item(model, position, item, call)
            if call.calls is not None:
                stages = _tree(call.layer, item.pipeline_stage_assignments, call.calls)
            else:
                stages = _stage_of(item, call)
        tree[id(call.layer), call.node_index] = stages
    return tree


def _all_in(call: LayerCall, stage: int) -> Any:
    if call.calls is None:
        return stage
    return {(id(inner.layer), inner.node_index): _all_in(inner, stage) for inner in call.calls}


def _check_item(model: Any, position: int, item: Any, call: LayerCall) -> None:
    kind = model_kind(model)
    layer_class, nested_class = _CLASSES[kind]
    expected: type = layer_class if call.calls is None else nested_class
    what = "layer" if call.calls is None else "nested model"
    if not isinstance(item, expected):
        raise ValueError(
            f"All elements of `pipeline_stage_assignment` must be instances of `{layer_class.__name__}` for "
            f"layers or `{nested_class.__name__}` for nested models: the pipeline stage assignment for "
            f"{what} {call.layer.name} in {model.name} must be an instance of `{expected.__name__}`. Instead "
            f"the assignment was of type {type(item).__name__}."
        )
    found: Any = getattr(item, "layer" if call.calls is None else "nested_model")
    if kind == "sequential" and found is not call.layer:
        raise ValueError(
            f"The provided assignment at index {position} `pipeline_stage_assignment` is for layer "
            f"{found.name}, but the layer in the Sequential model at index {position} is {call.layer.name}."
        )
    if found is not call.layer or getattr(item, "node_index", 0) != call.node_index:
        raise ValueError(
            "The order of `pipeline_stage_assignment` does not match the post-order generated from the graph "
            f"({found.name} != {call.layer.name}), which is the order in which the layers run."
        )


def _stage_of(item: Any, call: LayerCall) -> int:
    node = f" with node_index {item.node_index}" if hasattr(item, "node_index") else ""
    if item.pipeline_stage is None:
        raise ValueError(
            f"Layer {call.layer.name}{node} has not been assigned a pipeline stage in "
            "`pipeline_stage_assignment`."
        )
    if not is_stage(item.pipeline_stage):
        raise ValueError(
            f"{item.pipeline_stage!r} is not a valid pipeline stage for layer {call.layer.name}{node}: "
            "stages are numbered from 0."
        )
    return operator.index(item.pipeline_stage)


def _check_sequence(calls: Sequence[LayerCall], stages: Sequence[int]) -> None:
    """A model of layers only is checked without being built."""
    if stages and stages[0] != 0:
        raise ValueError(
            "The first layer in a pipelined sequential model needs to be assigned to the 0th pipeline stage, "
            f"however it was assigned to {stages[0]}."
        )
    for call, stage, previous in zip(calls[1:], stages[1:], stages, strict=False):
        if stage not in (previous, previous + 1):
            raise ValueError(
                f"Layer {call.layer.name} has been assigned to pipeline stage {stage}, however the previous "
                f"layer in the Sequential model was assigned to pipeline stage {previous}. A layer in a "
                "Sequential model can only be assigned to the same pipeline stage as the previous layer or "
                "to the next pipeline stage."
            )


def _stages(tree: StageTree) -> Iterator[int]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from _stages(value)
        else:
            yield value


def _check_none_is_missing(stages: Sequence[int]) -> None:
    missing = sorted(set(range(max(stages, default=-1) + 1)) - set(stages))
    if missing:
        raise ValueError(
            "Pipeline stage assignments must start at 0 and be strictly increasing. The highest assignment "
            f"found in `pipeline_stage_assignment` was stage {max(stages)}, however the preceding stages "
            f"{missing} had no assignments."
        )


def _check_order(model: Any) -> None:
    """Whether each layer takes results of its own and earlier stages only, as far as the model can be traced
    by now. What else is wrong with it the export tells."""
    try:
        inputs = model_inputs.describe(model, any_batch=True)
        layer_calls.build(model, inputs.structure)
        concrete, _ = _trace(model, inputs)
    except Exception:
        return
    graph_stages.assign(concrete.graph, concrete.inputs[: len(inputs.signature)])
