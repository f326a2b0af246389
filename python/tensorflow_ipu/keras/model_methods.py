"""What an IPU strategy adds to Keras models: the export, and the choice of pipeline stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorflow_ipu.keras import model_stages, model_structure, stage_summary
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
    if not model_structure.made_in_ipu_strategy(model):
        raise ValueError(
            f"The model '{getattr(model, 'name', model)}' was not created inside an IPU strategy. Create it "
            "inside `with ipu.ipu_strategy.IPUStrategy().scope():`."
        )


def pipelining_options(model: Any) -> PipeliningOptions:
    """The model's pipelining options, or the default ones."""
    return getattr(model, "_ipu_pipelining_options", None) or PipeliningOptions()


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
            f"set_pipelining_options() got unexpected arguments {sorted(unknown)}; it takes device_mapping "
            f"and {', '.join(_PIPELINE_ARGUMENTS)}."
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
      For a Sequential model a SequentialLayerPipelineStageAssignment for each layer, in order; for others one
      for each call of a layer (FunctionalLayerPipelineStageAssignment, ModelLayerPipelineStageAssignment), in
      the order in which they run. For a layer that is a model, one that holds the assignments of its layers
      (SequentialNestedModelPipelineStageAssignment, FunctionalNestedModelPipelineStageAssignment,
      NestedModelPipelineStageAssignment). To change them, set their `pipeline_stage` and pass the list to
      `set_pipeline_stage_assignment()`.

    Raises:
      RuntimeError: a subclassed model that has not been built.
      ValueError: the model was made outside of an IPU strategy.
    """
    require_ipu_strategy(self)
    return model_stages.get_assignment(self)


def set_pipeline_stage_assignment(self: Any, pipeline_stage_assignment: Sequence[Any]) -> None:
    """Assigns layers to stages.

    Args:
      pipeline_stage_assignment: for a Sequential model a list of stage numbers, one for each layer; for
        every model what `get_pipeline_stage_assignment()` returned, with all stages set. Stages of the layers
        of a nested model are this model's: the nested model's own assignment stays as it is.

    Raises:
      ValueError: the list does not fit the model, a layer has no stage, a layer takes a result of a later
      stage,
        stages decrease along a Sequential model, or a stage is left out; or the model was made outside of an
        IPU strategy.
    """
    require_ipu_strategy(self)
    model_stages.set_assignment(self, pipeline_stage_assignment)


def reset_pipeline_stage_assignment(self: Any) -> None:
    """Takes all stages away: the model is exported as a single step."""
    require_ipu_strategy(self)
    model_stages.reset_assignment(self)


def print_pipeline_stage_assignment_summary(
    self: Any, line_length: int | None = None, print_fn: Callable[[str], Any] | None = None
) -> None:
    """Prints each layer call: its layer, class, the layers whose results it takes, and its stage.

    Args:
      line_length: of all lines. None: 60 for Sequential models and 89 for others.
      print_fn: takes each line; `print` by default.
    """
    assignments = get_pipeline_stage_assignment(self)
    sequential = model_structure.model_kind(self) == "sequential"
    stage_summary.print_summary(self, assignments, sequential, line_length, print_fn or print)


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
