"""What an IPU strategy adds to Keras models: the export, and the choice of pipeline stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tensorflow_ipu.integers import as_integer, is_integer
from tensorflow_ipu.keras import model_stages, model_structure, stage_summary
from tensorflow_ipu.program.device_mapping import is_device_mapping
from tensorflow_ipu.program.layout import PipelineSchedule, PipelineStageOptions
from tensorflow_ipu.program.training_arguments import TRAINING_ARGUMENTS

# What `set_pipelining_options()` takes besides its named arguments, for the pipeline of an export.
_PIPELINE_ARGUMENTS = ("pipeline_schedule", "forward_propagation_stages_poplar_options", "name")

# Arguments of a pipeline that place data and have no effect on the emulator.
_PLACEMENT_ARGUMENTS = frozenset(["offload_activations", "offload_weights", "replicated_weight_sharding"])

# Arguments of `pipelining_ops.pipeline()` that Keras models set otherwise, and how.
_SET_BY = {
    "gradient_accumulation_count": "Set the `gradient_accumulation_steps_per_replica` argument to "
    "`set_pipelining_options` instead.",
    **dict.fromkeys(
        [
            "computational_stages",
            "repeat_count",
            "inputs",
            "infeed_queue",
            "outfeed_queue",
            "optimizer_function",
        ],
        "This argument is automatically set by Keras.",
    ),
    **dict.fromkeys(
        ["outfeed_loss", "outfeed_mask", "batch_serialization_iterations"],
        "This argument is not compatible with Keras.",
    ),
}


@dataclass
class PipeliningOptions:
    """What `set_pipelining_options()` was given."""

    device_mapping: list[int] | None = None
    pipeline_schedule: PipelineSchedule | None = None
    stage_options: Sequence[PipelineStageOptions] | None = None
    name: str | None = None


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
      gradient_accumulation_steps_per_replica: checked; it has no effect on inference.
      device_mapping: the IPU of each stage. None: as it was set before; stage k is on IPU k at first.
      accumulate_outfeed: accepted; it has no effect on inference.
      gradient_accumulation_reduction_method: "sum"; others are for training.
      pipelining_kwargs: `pipeline_schedule` (a PipelineSchedule, Grouped when it is not given),
        `forward_propagation_stages_poplar_options` (a PipelineStageOptions for each stage) and `name`;
        `offload_activations`, `offload_weights` and `replicated_weight_sharding` are accepted.

    Raises:
      NotImplementedError: an argument that only training uses.
      TypeError: an argument is of a wrong type, or there is no such argument.
      ValueError: device_mapping is not a list of integers, the steps are not a positive integer, or Keras
      sets an
        argument otherwise; or the model was made outside of an IPU strategy.
    """
    require_ipu_strategy(self)
    _check_steps(gradient_accumulation_steps_per_replica)
    _check_reduction_method("set_pipelining_options", gradient_accumulation_reduction_method)
    for argument in pipelining_kwargs:
        if argument in _SET_BY:
            raise ValueError(f"Found `{argument}` key in `pipelining_kwargs`. {_SET_BY[argument]}")
    unknown = set(pipelining_kwargs) - {*_PIPELINE_ARGUMENTS, *_PLACEMENT_ARGUMENTS, *TRAINING_ARGUMENTS}
    if unknown:
        raise TypeError(
            f"set_pipelining_options() got unexpected arguments {sorted(unknown)}; it takes device_mapping "
            f"and {', '.join(_PIPELINE_ARGUMENTS)}."
        )
    for argument, value in pipelining_kwargs.items():
        if not any(value is absent for absent in TRAINING_ARGUMENTS.get(argument, (value,))):
            raise _for_training("set_pipelining_options", argument)
    schedule = pipelining_kwargs.get("pipeline_schedule")
    if schedule is not None and not isinstance(schedule, PipelineSchedule):
        raise TypeError(f"pipeline_schedule must be a PipelineSchedule, but {schedule!r} was given.")
    options = replace(
        pipelining_options(self),
        pipeline_schedule=schedule,
        stage_options=pipelining_kwargs.get("forward_propagation_stages_poplar_options"),
        name=pipelining_kwargs.get("name"),
    )
    if device_mapping is not None:
        options.device_mapping = _checked_mapping(device_mapping)
    object.__setattr__(self, "_ipu_pipelining_options", options)


def _checked_mapping(device_mapping: Any) -> list[int]:
    if not is_device_mapping(device_mapping):
        raise ValueError(
            f"Expected `device_mapping` to be a list of integers, but {device_mapping!r} was given: the "
            "number of an IPU for each stage."
        )
    return [as_integer("device_mapping", ipu) for ipu in device_mapping]


def _check_steps(steps: Any) -> None:
    if steps is not None and (not is_integer(steps) or steps < 1):
        raise ValueError(
            "Expected `gradient_accumulation_steps_per_replica` to be a positive integer, but got "
            f"{steps!r} instead."
        )


def _check_reduction_method(method: str, value: Any) -> None:
    if str(getattr(value, "name", value)).lower() != "sum":
        raise _for_training(method, "gradient_accumulation_reduction_method")


def _for_training(method: str, argument: str) -> NotImplementedError:
    return NotImplementedError(
        f"{method}(): `{argument}` is used for training only, and models on IPUs are for inference here. "
        "Leave it out; fit() trains on the host."
    )


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


def set_gradient_accumulation_options(
    self: Any,
    gradient_accumulation_steps_per_replica: int | None = None,
    gradient_accumulation_reduction_method: Any = "sum",
    use_v2_gradient_accumulation_optimizer: bool = False,
    **gradient_accumulation_optimizer_kwargs: Any,
) -> None:
    """Accepted with its defaults: gradients are for training, which happens on the host, as ever.

    Raises:
      NotImplementedError: gradients are to be accumulated.
      ValueError: the steps are not a positive integer; the model was made outside of an IPU strategy.
    """
    require_ipu_strategy(self)
    method = "set_gradient_accumulation_options"
    steps = gradient_accumulation_steps_per_replica
    _check_steps(steps)
    if steps is not None and steps > 1:
        raise _for_training(method, "gradient_accumulation_steps_per_replica")
    _check_reduction_method(method, gradient_accumulation_reduction_method)
    if use_v2_gradient_accumulation_optimizer:
        raise _for_training(method, "use_v2_gradient_accumulation_optimizer")
    for argument in gradient_accumulation_optimizer_kwargs:
        raise _for_training(method, argument)


def set_asynchronous_callbacks(self: Any, asynchronous: bool = False) -> None:
    """Accepted: callbacks belong to fit(), evaluate() and predict(), which run on the host."""
    require_ipu_strategy(self)


def set_replication_options(self: Any, replicated_metric_reduction_method: Any = "NONE") -> None:
    """Accepted: metrics belong to fit() and evaluate(), which run on the host, once."""
    require_ipu_strategy(self)


def set_infeed_queue_options(self: Any, **kwargs: Any) -> None:
    """Accepted: an exported model is fed by requests.

    Raises:
      ValueError: Keras sets an argument otherwise; the model was made outside of an IPU strategy.
    """
    require_ipu_strategy(self)
    for argument in {"dataset", "infeed_spec", "element_spec"} & set(kwargs):
        raise ValueError(f"Found `{argument}` key in `kwargs`. This argument is automatically set by Keras.")


def set_outfeed_queue_options(self: Any, **kwargs: Any) -> None:
    """Accepted: an exported model answers requests.

    Raises:
      ValueError: Keras sets an argument otherwise; the model was made outside of an IPU strategy.
    """
    require_ipu_strategy(self)
    for argument in {"outfeed_mode", "device_ordinal"} & set(kwargs):
        raise ValueError(f"Found `{argument}` key in `kwargs`. This argument is not compatible with Keras.")


_METHODS = (
    set_infeed_queue_options,
    set_outfeed_queue_options,
    set_asynchronous_callbacks,
    set_gradient_accumulation_options,
    set_replication_options,
    print_pipeline_stage_assignment_summary,
    set_pipelining_options,
    get_pipeline_stage_assignment,
    set_pipeline_stage_assignment,
    reset_pipeline_stage_assignment,
)


def add_to(model_class: type) -> None:
    """Gives a Keras package's Model class the methods of this file. Idempotent."""
    for method in _METHODS:
        setattr(model_class, method.__name__, method)
