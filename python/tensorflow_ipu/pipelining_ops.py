"""Pipelines: the schedules and options of their stages, and `pipeline`, which builds one inside a program."""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tensorflow_ipu.device_mapping import as_device_mapping, check_configured
from tensorflow_ipu.gradient_accumulation import GradientAccumulationReductionMethod
from tensorflow_ipu.integers import as_integer
from tensorflow_ipu.ipu_infeed_queue import IPUInfeedQueue, call_arguments
from tensorflow_ipu.ipu_outfeed_queue import IPUOutfeedQueue
from tensorflow_ipu.not_provided import stand_in
from tensorflow_ipu.program_builder import (
    MainProgram,
    ProgramBuilder,
    TracedStage,
    current_builder,
    inlined,
    runs_at_once,
    runs_later,
    trace_stage,
)

__all__ = [
    "PipelineLayout",
    "PipelineSchedule",
    "PipelineStageOptions",
    "RecomputationMode",
    "pipeline",
    "pipeline_layout",
]


class PipelineSchedule(enum.IntEnum):
    """How the stages of a pipeline take turns.

    `Grouped` and `Interleaved` keep one batch in each stage, so that all IPUs work at the same time; for
    inference the two are alike. Results leave the device only when further batches enter behind them, or
    when the executable's timeout passes. `Sequential` lets one batch pass all stages before the next one
    enters: nothing overlaps, nothing is held back.
    """

    Grouped = 0
    Interleaved = 1
    Sequential = 2


class RecomputationMode(enum.Enum):
    """When activations are computed again in training. Pipelines for inference take `Auto`, the default."""

    Auto = 1
    RecomputeThenBackpropagate = 2
    RecomputeAndBackpropagateInterleaved = 3


class PipelineStageOptions:
    """Compilation options of one pipeline stage, which take precedence over those of the `IPUConfig`.

    The emulator's code does not depend on them: they are checked, and kept in the executable for people to
    read.
    """

    def __init__(
        self,
        convolution_options: Mapping[str, str] | None = None,
        matmul_options: Mapping[str, str] | None = None,
        slice_options: Mapping[str, str] | None = None,
    ) -> None:
        """Each argument maps option names to values; None stands for no options.

        Raises:
          TypeError: an argument is no dictionary.
        """
        self.convolution_options = _checked_options("convolution_options", convolution_options)
        self.matmul_options = _checked_options("matmul_options", matmul_options)
        self.slice_options = _checked_options("slice_options", slice_options)

    def to_dict(self) -> dict[str, dict[str, str]]:
        """The options by kind: "convolution_options", "matmul_options", "slice_options"."""
        return {
            "convolution_options": dict(self.convolution_options),
            "matmul_options": dict(self.matmul_options),
            "slice_options": dict(self.slice_options),
        }

    def __repr__(self) -> str:
        return f"PipelineStageOptions({self.to_dict()})"


def _checked_options(name: str, options: Any) -> dict[str, str]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(
            f"PipelineStageOptions.{name} must be a dictionary, but a {type(options).__name__} was given."
        )
    return {str(key): str(value) for key, value in options.items()}


@dataclass(frozen=True)
class PipelineLayout:
    """Where the stages of a pipeline are and how they take turns.

    hold: further batches that must enter before the device gives up a batch's results.
    options: the stages' options as text, for people who inspect an executable.
    """

    device_mapping: Sequence[int]
    num_ipus: int
    schedule: PipelineSchedule
    hold: int
    options: Mapping[str, str]


def pipeline_layout(
    stages: int,
    device_mapping: Sequence[int] | None = None,
    pipeline_schedule: PipelineSchedule | None = None,
    stage_options: Sequence[PipelineStageOptions] | None = None,
    options_argument: str = "forward_propagation_stages_poplar_options",
) -> PipelineLayout:
    """Checks the arguments that lay out a pipeline against each other.

    IPUs are counted when the pipeline is compiled: a script may configure them after it has built its graph.

    Args:
      stages: how many there are.
      device_mapping: the IPU of each stage; None for stage k on IPU k.
      pipeline_schedule: None for Grouped.
      stage_options: options of each stage; None for none.
      options_argument: what the caller's `stage_options` are called, for messages.

    Raises:
      TypeError: an argument is of a wrong type.
      ValueError: fewer than two stages; a list has not one entry a stage.
    """
    if stages < 2:
        raise ValueError(f"A pipeline requires at least two computational stages, but {stages} was given.")
    if pipeline_schedule is None:
        pipeline_schedule = PipelineSchedule.Grouped
    if not isinstance(pipeline_schedule, PipelineSchedule):
        raise TypeError(f"`pipeline_schedule` must be a PipelineSchedule, not {pipeline_schedule!r}.")
    mapping = as_device_mapping(device_mapping, stages)
    return PipelineLayout(
        device_mapping=mapping,
        num_ipus=max(mapping) + 1,
        schedule=pipeline_schedule,
        hold=0 if pipeline_schedule is PipelineSchedule.Sequential else stages - 1,
        options=_stage_options_text(stages, stage_options, options_argument),
    )


def _stage_options_text(stages: int, options: Any, argument: str) -> dict[str, str]:
    if options is None:
        return {}
    if not isinstance(options, (list, tuple)) or not all(
        isinstance(item, PipelineStageOptions) for item in options
    ):
        raise TypeError(f"`{argument}` must be a list or tuple of PipelineStageOptions, not {options!r}.")
    if len(options) != stages:
        raise ValueError(
            f"`{argument}` must have one PipelineStageOptions a stage: {len(options)} were given, but there"
            f" are {stages} stages."
        )
    return {f"stage_{number}": json.dumps(item.to_dict()) for number, item in enumerate(options)}


# Arguments of `pipeline` that only matter when gradients are computed, and the values that stand for "not
# given" or are the original's defaults.
TRAINING_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "optimizer_function": (None,),
    "gradient_accumulation_dtype": (None,),
    "recomputation_mode": (None, RecomputationMode.Auto),
    "backward_propagation_stages_poplar_options": (None,),
    "weight_update_poplar_options": (None,),
    "offload_weight_update_variables": (None, False),
    "replicated_optimizer_state_sharding": (None, False),
    "offload_gradient_accumulation_buffers": (None, False),
    "continuous_weight_updates": (None, False),
    "outfeed_loss": (None, False),
    "accumulate_outfeed": (None, False),
    "accumulate_outfeed_dtype": (None,),
    "outfeed_mask": (None,),
    "reduction_method": (None, GradientAccumulationReductionMethod.SUM, "SUM", "sum"),
}


def pipeline(
    computational_stages: Sequence[Callable[..., Any]],
    gradient_accumulation_count: int | None = None,
    gradient_accumulation_dtype: Any = None,
    repeat_count: int = 1,
    batch_serialization_iterations: int = 1,
    inputs: Any = None,
    infeed_queue: IPUInfeedQueue | None = None,
    outfeed_queue: IPUOutfeedQueue | None = None,
    optimizer_function: Any = None,
    device_mapping: Sequence[int] | None = None,
    pipeline_schedule: PipelineSchedule | None = None,
    recomputation_mode: Any = None,
    forward_propagation_stages_poplar_options: Sequence[PipelineStageOptions] | None = None,
    backward_propagation_stages_poplar_options: Any = None,
    weight_update_poplar_options: Any = None,
    offload_weight_update_variables: Any = None,
    replicated_optimizer_state_sharding: Any = False,
    offload_activations: Any = None,
    offload_gradient_accumulation_buffers: Any = None,
    replicated_weight_sharding: Any = None,
    offload_weights: Any = None,
    continuous_weight_updates: Any = False,
    outfeed_loss: Any = False,
    accumulate_outfeed: Any = False,
    accumulate_outfeed_dtype: Any = None,
    outfeed_mask: Any = None,
    reduction_method: Any = None,
    name: str | None = None,
) -> Any:
    """A pipeline for inference: stages that run one behind the other, each on an IPU.

    In a program that is compiled into an executable it is the main program; elsewhere it runs on the host.

    Args:
      computational_stages: at least two functions. The first takes `inputs` and what is fed; each other one
        takes what the one before it returns. What the last one returns (tensors, or a dictionary of
        tensors) goes into `outfeed_queue`.
      gradient_accumulation_count: times each stage runs before the pipeline restarts.
      repeat_count: times the pipeline runs.
      inputs: tensors for the first stage, ahead of what is fed; the same in each step.
      infeed_queue: of which each step takes one element.
      outfeed_queue: takes what the last stage returns; needed when it returns anything.
      device_mapping: the IPU of each stage; stage k is on IPU k by default.
      pipeline_schedule: Grouped by default.
      forward_propagation_stages_poplar_options: a PipelineStageOptions for each stage.
      name: of the pipeline.
      offload_activations, offload_weights, replicated_weight_sharding: accepted.
      The others are for training.

    Returns:
      An operation that runs the pipeline; None where operations run by themselves (in TensorFlow 2).

    Raises:
      NotImplementedError: an argument that only training uses; batch_serialization_iterations above 1.
      TypeError: an argument is of a wrong type.
      ValueError: no gradient_accumulation_count; fewer than two stages; a list has not one entry a stage;
        an IPU is not configured; results without an outfeed queue.
    """
    arguments = locals()
    for argument, absent in TRAINING_ARGUMENTS.items():
        given = arguments[argument]
        given = bool(given) if isinstance(given, np.bool_) else given
        if not any(given is value or (isinstance(value, str) and given == value) for value in absent):
            raise NotImplementedError(
                f"pipeline(): `{argument}` is used for training only, and pipelines here are for"
                f" inference. Leave it out."
            )
    if as_integer("batch_serialization_iterations", batch_serialization_iterations) != 1:
        raise NotImplementedError("pipeline(): `batch_serialization_iterations` must be 1.")
    if not isinstance(computational_stages, (list, tuple)):
        raise TypeError("computational_stages argument needs to be a list or a tuple.")
    if gradient_accumulation_count is None:
        raise ValueError("gradient_accumulation_count must be specified.")
    steps = as_integer("gradient_accumulation_count", _known(gradient_accumulation_count), 1)
    steps *= as_integer("repeat_count", _known(repeat_count), 1)
    if infeed_queue is not None and not isinstance(infeed_queue, IPUInfeedQueue):
        raise TypeError(f"infeed_queue must be an IPUInfeedQueue, not a {type(infeed_queue).__name__}.")
    if outfeed_queue is not None and not isinstance(outfeed_queue, IPUOutfeedQueue):
        raise TypeError(f"outfeed_queue must be an IPUOutfeedQueue, not a {type(outfeed_queue).__name__}.")
    layout = pipeline_layout(
        len(computational_stages),
        device_mapping,
        pipeline_schedule,
        forward_propagation_stages_poplar_options,
    )
    values = inputs if isinstance(inputs, (list, tuple)) else ([] if inputs is None else [inputs])
    constants = [tf.convert_to_tensor(value) for value in values]
    stages = _Stages(
        [inlined(stage) for stage in computational_stages], constants, infeed_queue, outfeed_queue
    )
    builder = current_builder()
    if builder is None:
        if runs_at_once():
            check_configured(layout.device_mapping)
        return stages.run_on_host(steps)
    builder.set_main(stages.trace(builder, steps, layout, name or "pipeline"))
    return tf.no_op()


def _known(count: Any) -> Any:
    """The value of a tensor that is a constant."""
    value = tf.get_static_value(count) if tf.is_tensor(count) else None
    return count if value is None else value


@dataclass(frozen=True)
class _Stages:
    """The stages of a pipeline and its feeds."""

    functions: Sequence[Callable[..., Any]]
    constants: Sequence[Any]
    infeed_queue: IPUInfeedQueue | None
    outfeed_queue: IPUOutfeedQueue | None

    def trace(self, builder: ProgramBuilder, steps: int, layout: PipelineLayout, name: str) -> MainProgram:
        """The pipeline as a main program."""
        infeed = self.infeed_queue
        specs = infeed._specs() if infeed is not None else []
        traced: list[TracedStage] = []
        enqueued: dict[str, Any] = {}
        structure: Any = None
        for position in range(len(self.functions)):
            last = position == len(self.functions) - 1
            stage = functools.partial(self._run, position, structure)
            part, returned, enqueued = trace_stage(builder, f"{name}_stage_{position}", stage, specs)
            structure = tf.nest.map_structure(tf.convert_to_tensor, _tensors_of(returned))
            flat = list(enqueued.values()) if last else tf.nest.flatten(structure)
            part.results = [_inside(part.graph, tensor) for tensor in flat]
            specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in part.results]
            traced.append(part)
        if not enqueued:
            raise ValueError(
                "The last stage of the pipeline returns nothing: the program would give no results."
            )
        return MainProgram(
            iterations=steps,
            stages=traced,
            infeed_names=infeed._names(self.functions[0], len(self.constants)) if infeed is not None else [],
            carried=[],
            outfeed_names=list(enqueued),
            layout=layout,
        )

    def _run(self, position: int, structure: Any, *tensors: Any) -> Any:
        """Calls a stage with flat tensors: what is fed, or `structure` as the stage before it returned it."""
        function = self.functions[position]
        if position == 0:
            returned = self._first(function, list(tensors))
        else:
            returned = _call(function, tf.nest.pack_sequence_as(structure, list(tensors)))
        if position == len(self.functions) - 1:
            self._enqueue(returned)
        return returned

    def run_on_host(self, steps: int) -> Any:
        """The pipeline as a TensorFlow loop."""

        def step(count: Any) -> Any:
            element = [] if self.infeed_queue is None else tf.nest.flatten(self.infeed_queue._dequeue())
            returned = self._first(self.functions[0], element)
            for function in self.functions[1:]:
                returned = _call(function, _tensors_of(returned))
            operations = [item for item in [self._enqueue(returned)] if item is not None]
            with tf.control_dependencies(operations):
                return [tf.identity(count + 1)]

        count = tf.while_loop(lambda count: count < steps, step, [tf.constant(0)], parallel_iterations=1)
        count = count[0] if isinstance(count, (list, tuple)) else count
        return runs_later(getattr(count, "op", None))

    def _first(self, function: Callable[..., Any], element: list[Any]) -> Any:
        if self.infeed_queue is None:
            return function(*self.constants)
        self.infeed_queue._dequeued = True
        packed = tf.nest.pack_sequence_as(self.infeed_queue.element_spec, element)
        positional, named = call_arguments(packed)
        return function(*self.constants, *positional, **named)

    def _enqueue(self, returned: Any) -> Any:
        tensors = _tensors_of(returned)
        if not tf.nest.flatten(tensors):
            return None
        if self.outfeed_queue is None:
            raise ValueError(
                "The last computational stage has outputs, for which an `outfeed_queue` is required."
            )
        single = isinstance(tensors, list) and len(tensors) == 1
        return self.outfeed_queue.enqueue(tensors[0] if single else tensors)


def _tensors_of(returned: Any) -> Any:
    """What a stage returned without operations: a list, or a dictionary."""
    items = list(returned) if isinstance(returned, (list, tuple)) else [returned]
    items = [item for item in items if item is not None and not isinstance(item, tf.Operation)]
    return items[0] if len(items) == 1 and isinstance(items[0], dict) else items


def _call(function: Callable[..., Any], values: Any) -> Any:
    return function(**values) if isinstance(values, dict) else function(*values)


def _inside(graph: Any, tensor: Any) -> Any:
    """A stage may return what it captured from outside."""
    if getattr(tensor, "graph", None) is graph:
        return tensor
    with graph.as_default():
        return tf.identity(tensor)


def __getattr__(name: str) -> Any:
    return stand_in("pipelining_ops", name)
