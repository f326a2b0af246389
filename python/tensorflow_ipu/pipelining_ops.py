"""Pipelines: the schedules and options of their stages, and `pipeline`, which builds one inside a program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tensorflow_ipu.integers import as_integer
from tensorflow_ipu.ipu_infeed_queue import IPUInfeedQueue, call_arguments
from tensorflow_ipu.ipu_outfeed_queue import IPUOutfeedQueue
from tensorflow_ipu.not_provided import stand_in
from tensorflow_ipu.program.collect import (
    MainProgram,
    ProgramBuilder,
    TracedStage,
    current_builder,
    inlined,
    runs_at_once,
    runs_later,
    trace_stage,
)
from tensorflow_ipu.program.device_mapping import check_configured
from tensorflow_ipu.program.layout import (
    PipelineLayout,
    PipelineSchedule,
    PipelineStageOptions,
    pipeline_layout,
)
from tensorflow_ipu.program.training_arguments import TRAINING_ARGUMENTS, RecomputationMode

__all__ = [
    "PipelineLayout",
    "PipelineSchedule",
    "PipelineStageOptions",
    "RecomputationMode",
    "pipeline",
    "pipeline_layout",
]


def pipeline(
    computational_stages: Sequence[Callable[..., Any]],
    gradient_accumulation_count: int | None = None,
    gradient_accumulation_dtype: Any = None,
    gradient_accumulation_for_captured_grads: Any = True,
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
