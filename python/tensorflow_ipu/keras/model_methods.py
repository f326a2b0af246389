"""What an IPU strategy adds to Keras models: the export, and the choice of pipeline stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tensorflow_ipu.keras import layer_calls
from tensorflow_ipu.keras.pipeline_stage import (
    FunctionalLayerPipelineStageAssignment,
    ModelLayerPipelineStageAssignment,
    SequentialLayerPipelineStageAssignment,
)
from tensorflow_ipu.pipelining_ops import PipelineSchedule, PipelineStageOptions

# What `set_pipelining_options()` passes on to a pipeline; everything else it takes is for training.
_PIPELINE_ARGUMENTS = (
    "pipeline_schedule",
    "forward_propagation_stages_poplar_options",
    "name",
)
_TRAINING_ARGUMENTS = frozenset(
    [
        "backward_propagation_stages_poplar_options",
        "batch_serialization_iterations",
        "continuous_weight_updates",
        "gradient_accumulation_dtype",
        "offload_activations",
        "offload_gradient_accumulation_buffers",
        "offload_weight_update_variables",
        "offload_weights",
        "optimizer_function",
        "outfeed_loss",
        "recomputation_mode",
        "replicated_optimizer_state_sharding",
        "replicated_weight_sharding",
        "weight_update_poplar_options",
    ]
)


@dataclass
class PipeliningOptions:
    """What `set_pipelining_options()` was given."""

    device_mapping: list[int] | None = None
    pipeline_schedule: PipelineSchedule | None = None
    stage_options: Sequence[PipelineStageOptions] | None = None
    name: str | None = None
    ignored: dict[str, Any] = field(default_factory=dict)


def require_ipu_strategy(model: Any) -> None:
    """
    Raises:
      ValueError: the model was made outside of an IPU strategy.
    """
    if not layer_calls.made_in_ipu_strategy(model):
        raise ValueError(
            f"The model '{getattr(model, 'name', model)}' was not created inside an IPU strategy. Create"
            f" it inside"
            " `with ipu.ipu_strategy.IPUStrategy().scope():`."
        )


def pipelining_options(model: Any) -> PipeliningOptions:
    """The model's pipelining options, or the default ones."""
    return getattr(model, "_ipu_pipelining_options", None) or PipeliningOptions()


def model_kind(model: Any) -> str:
    """ "sequential", "functional" or "subclassed"."""
    names = {base.__name__ for base in type(model).__mro__}
    if "Sequential" in names:
        return "sequential"
    return "subclassed" if layer_calls.functional_nodes(model) is None else "functional"


def is_pipelined(model: Any) -> bool:
    """Whether a layer of the model was assigned to a stage: outside of `call`, in which the trace finds
    out."""
    if layer_calls.assigned_stages(model):
        return True
    nodes = layer_calls.functional_nodes(model) or []
    if any(hasattr(node, layer_calls.STAGE_ATTRIBUTE) for node in nodes):
        return True
    children = [*getattr(model, "layers", [])]
    if any(hasattr(child, layer_calls.STAGE_ATTRIBUTE) for child in children):
        return True
    return any(is_pipelined(child) for child in children if hasattr(child, "layers"))


def may_be_pipelined(model: Any) -> bool:
    """False when the model is no pipeline for sure: nothing is assigned, and no model is subclassed."""
    return is_pipelined(model) or any(
        hasattr(layer, "fit") and model_kind(layer) == "subclassed" for layer in layer_calls.all_layers(model)
    )


def export_for_ipu_serving(
    self: Any,
    export_dir: str,
    batch_size: Any = None,
    output_names: Any = None,
    preprocessing_step: Any = None,
    preprocessing_step_signature: Any = None,
    postprocessing_step: Any = None,
    postprocessing_step_signature: Any = None,
    purge_export_dir: bool = False,
    **options: Any,
) -> Any:
    """Exports the model for TensorFlow Serving; see `tensorflow_ipu.serving.export_keras()`."""
    from tensorflow_ipu import serving

    return serving.export_keras(
        self,
        export_dir,
        batch_size,
        output_names,
        preprocessing_step,
        preprocessing_step_signature,
        postprocessing_step,
        postprocessing_step_signature,
        purge_export_dir,
        **options,
    )


def set_pipelining_options(
    self: Any,
    gradient_accumulation_steps_per_replica: int | None = None,
    device_mapping: Sequence[int] | None = None,
    accumulate_outfeed: bool | None = None,
    gradient_accumulation_reduction_method: Any = "sum",
    **pipelining_kwargs: Any,
) -> None:
    """Sets how the model's pipeline is laid out.

    Args:
      device_mapping: the IPU of each stage; stage k is on IPU k when it is not given.
      pipelining_kwargs: `pipeline_schedule` (a PipelineSchedule, Grouped when it is not given),
        `forward_propagation_stages_poplar_options` (a PipelineStageOptions for each stage) and `name`.
        Those of `pipelining_ops.pipeline` that matter to training, and the arguments on gradient
        accumulation and outfeeds, are accepted and have no effect on an export.

    Raises:
      TypeError: an argument is of a wrong type, or there is no such argument.
      ValueError: the model was made outside of an IPU strategy.
    """
    require_ipu_strategy(self)
    unknown = set(pipelining_kwargs) - set(_PIPELINE_ARGUMENTS) - _TRAINING_ARGUMENTS
    if unknown:
        raise TypeError(
            f"set_pipelining_options() got unexpected arguments {sorted(unknown)}; it takes"
            f" device_mapping and"
            f" {', '.join(_PIPELINE_ARGUMENTS)}."
        )
    if device_mapping is not None and not isinstance(device_mapping, (list, tuple)):
        raise TypeError(f"device_mapping must be a list or tuple, but {device_mapping!r} was given.")
    schedule = pipelining_kwargs.pop("pipeline_schedule", None)
    if schedule is not None and not isinstance(schedule, PipelineSchedule):
        raise TypeError(f"pipeline_schedule must be a PipelineSchedule, but {schedule!r} was given.")
    steps = gradient_accumulation_steps_per_replica
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ValueError(f"gradient_accumulation_steps_per_replica must be a positive int, not {steps!r}.")
    options = PipeliningOptions(
        device_mapping=None if device_mapping is None else [int(ipu) for ipu in device_mapping],
        pipeline_schedule=schedule,
        stage_options=pipelining_kwargs.pop("forward_propagation_stages_poplar_options", None),
        name=pipelining_kwargs.pop("name", None),
        ignored={
            "gradient_accumulation_steps_per_replica": steps,
            "accumulate_outfeed": accumulate_outfeed,
            "gradient_accumulation_reduction_method": gradient_accumulation_reduction_method,
            **pipelining_kwargs,
        },
    )
    object.__setattr__(self, "_ipu_pipelining_options", options)


def get_pipeline_stage_assignment(self: Any) -> list[Any]:
    """The stage of each layer call, None where there is none.

    Returns:
      For a Sequential model a SequentialLayerPipelineStageAssignment for each layer, in order; for others
      one for each call of a layer (FunctionalLayerPipelineStageAssignment,
      ModelLayerPipelineStageAssignment), in the order in which they run. To change them, set their
      `pipeline_stage` and pass the list to `set_pipeline_stage_assignment()`.

    Raises:
      RuntimeError: a subclassed model that has not been built.
      ValueError: the model was made outside of an IPU strategy.
    """
    require_ipu_strategy(self)
    kind = model_kind(self)
    assigned = layer_calls.assigned_stages(self)
    if kind == "sequential":
        return [
            SequentialLayerPipelineStageAssignment(
                layer, assigned.get((id(layer), 0), getattr(layer, layer_calls.STAGE_ATTRIBUTE, None))
            )
            for layer in self.layers
        ]
    if kind == "functional":
        return [
            FunctionalLayerPipelineStageAssignment(
                layer, index, assigned.get((id(layer), index), _stage_of_node(layer, node))
            )
            for layer, index, node in _functional_calls(self)
        ]
    if not self.built:
        raise RuntimeError(
            f"Cannot get pipeline stage assignments for model `{self.name}` which has not been built yet."
            f" Call"
            " `build()` with the shapes of its inputs first."
        )
    return [
        ModelLayerPipelineStageAssignment(
            call.layer, call.node_index, assigned.get((id(call.layer), call.node_index), call.stage)
        )
        for call in _subclassed_calls(self)
    ]


def set_pipeline_stage_assignment(self: Any, pipeline_stage_assignment: Sequence[Any]) -> None:
    """Assigns layers to stages.

    Args:
      pipeline_stage_assignment: for a Sequential model a list of stage numbers, one for each layer; for
        every model what `get_pipeline_stage_assignment()` returned, with all stages set.

    Raises:
      ValueError: the list does not fit the model, a layer has no stage, stages decrease along a Sequential
        model, or a stage is left out; or the model was made outside of an IPU strategy.
    """
    require_ipu_strategy(self)
    current = get_pipeline_stage_assignment(self)
    given = list(pipeline_stage_assignment)
    kind = model_kind(self)
    what = "layers in the model" if kind == "sequential" else "layers in the graph"
    if len(given) != len(current):
        raise ValueError(
            f"The length of the provided `pipeline_stage_assignment` ({len(given)}) does not match the"
            f" number of"
            f" {what} ({len(current)})."
        )
    expected = type(current[0]) if current else SequentialLayerPipelineStageAssignment
    if kind == "sequential":
        given = [
            expected(present.layer, item) if isinstance(item, int) and not isinstance(item, bool) else item
            for item, present in zip(given, current, strict=True)
        ]
    if not all(isinstance(item, expected) for item in given):
        raise ValueError(
            f"All elements of `pipeline_stage_assignment` must be instances of `{expected.__name__}`"
            + (" or stage numbers." if kind == "sequential" else ".")
        )
    for item, present in zip(given, current, strict=True):
        index = getattr(item, "node_index", 0)
        if item.layer is not present.layer or index != getattr(present, "node_index", 0):
            raise ValueError(
                "The order of `pipeline_stage_assignment` does not match the order in which the layers"
                " run: layer"
                f" {item.layer.name} was found where {present.layer.name} was expected."
            )
        if item.pipeline_stage is None:
            raise ValueError(
                f"Layer {item.layer.name} with node_index {index} has not been assigned a pipeline stage in"
                " `pipeline_stage_assignment`."
            )
    _check_stages([item.pipeline_stage for item in given], kind)
    object.__setattr__(
        self,
        "_ipu_stage_assignment",
        {(id(item.layer), getattr(item, "node_index", 0)): item.pipeline_stage for item in given},
    )


def reset_pipeline_stage_assignment(self: Any) -> None:
    """Takes all stages away: the model is exported as a single step."""
    require_ipu_strategy(self)
    object.__setattr__(self, "_ipu_stage_assignment", None)
    for node in layer_calls.functional_nodes(self) or []:
        node.__dict__.pop(layer_calls.STAGE_ATTRIBUTE, None)
    for layer in self.layers:
        layer.__dict__.pop(layer_calls.STAGE_ATTRIBUTE, None)


def _check_stages(stages: Sequence[int], kind: str) -> None:
    if kind == "sequential" and any(
        later < earlier for earlier, later in zip(stages, stages[1:], strict=False)
    ):
        raise ValueError(f"Pipeline stages must not decrease from layer to layer: {list(stages)}.")
    missing = sorted(set(range(max(stages, default=0) + 1)) - set(stages))
    if missing or min(stages, default=0) < 0:
        raise ValueError(
            "Pipeline stage assignments must start at 0 and be strictly increasing. The highest"
            " assignment found in"
            f" `pipeline_stage_assignment` was stage {max(stages)}, however the preceding stages"
            f" {missing} had no"
            " assignments."
        )


def _functional_calls(model: Any) -> list[tuple[Any, int, Any]]:
    """Layer, node index and node of each layer call, in the order in which they run."""
    calls = []
    for node in layer_calls.functional_nodes(model) or []:
        layer = getattr(node, "operation", None) or node.layer
        if layer_calls.is_layer(layer):
            calls.append((layer, layer._inbound_nodes.index(node), node))
    return calls


def _stage_of_node(layer: Any, node: Any) -> int | None:
    return getattr(node, layer_calls.STAGE_ATTRIBUTE, getattr(layer, layer_calls.STAGE_ATTRIBUTE, None))


def _subclassed_calls(model: Any) -> list[layer_calls.LayerCall]:
    """The layer calls of a subclassed model, found by tracing it."""
    from tensorflow_ipu.keras import model_inputs

    inputs = model_inputs.describe(model, any_batch=True)
    layer_calls.build(model, inputs.structure)
    found: list[layer_calls.LayerCall] = []

    def trace(*tensors: Any) -> None:
        _, calls = layer_calls.trace_to_graph(model, inputs.pack(tensors), all_assigned=False)
        found.extend(calls)

    tf.function(trace).get_concrete_function(*inputs.signature)
    return found


def print_pipeline_stage_assignment_summary(
    self: Any, line_length: int | None = None, print_fn: Callable[[str], Any] | None = None
) -> None:
    """Prints a line for each layer call: its layer, class and stage.

    Args:
      line_length: longer lines are cut.
      print_fn: takes each line; `print` by default.
    """
    rows = [("Layer (node index)", "Class", "Pipeline stage")]
    for item in get_pipeline_stage_assignment(self):
        index = getattr(item, "node_index", None)
        name = item.layer.name if index is None else f"{item.layer.name} ({index})"
        stage = "-" if item.pipeline_stage is None else str(item.pipeline_stage)
        rows.append((name, type(item.layer).__name__, stage))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        (print_fn or print)(line[:line_length])


def _accepted(name: str, what: str) -> Callable[..., None]:
    """A method that scripts call and that changes nothing about an exported model."""

    def method(self: Any, *args: Any, **kwargs: Any) -> None:
        require_ipu_strategy(self)

    method.__name__ = name
    method.__doc__ = f"Accepted: {what}"
    return method


_METHODS = (
    _accepted("set_infeed_queue_options", "an exported model is fed by requests."),
    _accepted("set_outfeed_queue_options", "an exported model answers requests."),
    _accepted("set_asynchronous_callbacks", "callbacks are for training on the host."),
    _accepted("set_gradient_accumulation_options", "gradients are for training on the host."),
    print_pipeline_stage_assignment_summary,
    export_for_ipu_serving,
    set_pipelining_options,
    get_pipeline_stage_assignment,
    set_pipeline_stage_assignment,
    reset_pipeline_stage_assignment,
)


def add_to(model_class: type) -> None:
    """Gives a Keras package's Model class the methods of this file. Idempotent."""
    for method in _METHODS:
        setattr(model_class, method.__name__, method)
