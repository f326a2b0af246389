"""The export of a Keras model: as a single step, or as a pipeline of the stages of its layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tensorflow_ipu.export import (
    ExportOptions,
    HostStepArguments,
    ProgramOptions,
    export_stages,
    program_name,
)
from tensorflow_ipu.keras import layer_calls, model_inputs, model_methods, model_stages
from tensorflow_ipu.keras.model_inputs import ModelInputs
from tensorflow_ipu.program import DEFAULT_TARGET_CPU, DEFAULT_TIMEOUT_US
from tensorflow_ipu.program.layout import pipeline_layout
from tensorflow_ipu.progress import ProgressCallback


def export_keras(
    model: Any,
    export_dir: str,
    batch_size: Any = None,
    output_names: Any = None,
    preprocessing_step: Callable | None = None,
    preprocessing_step_signature: Any = None,
    postprocessing_step: Callable | None = None,
    postprocessing_step_signature: Any = None,
    purge_export_dir: bool = False,
    *,
    timeout_us: int = DEFAULT_TIMEOUT_US,
    dynamic_batch: bool = False,
    replicas: int | None = None,
    target_cpu: str = DEFAULT_TARGET_CPU,
    progress: ProgressCallback | bool | None = None,
    max_wait_us: int = 0,
    smaller_batches: Sequence[int] | None = None,
    target: str = "ipu",
    device_plugin: str | None = None,
) -> Any:
    """Exports a Keras model that was made inside an IPU strategy.

    The model is run as for inference. When its layers are assigned to pipeline stages, it becomes a pipeline.
    `model.compile(steps_per_execution=...)` gives the iterations: steps in one run of the main program.

    Args:
      model: Sequential, functional or subclassed, of Keras 3 or tf_keras.
      export_dir: folder of the SavedModel; it must be empty or not exist.
      batch_size: int or scalar tensor that replaces the leading dimension of the inputs; needed where the
        model leaves it open.
      output_names: a string, or a list of strings, one for each output. None: "output_0", "output_1", ...
      preprocessing_step: function that runs on the CPU ahead of the model, which takes its outputs.
      preprocessing_step_signature: list or tuple of tf.TensorSpec, one for each parameter of
        `preprocessing_step`; not needed when that is a tf.function with an `input_signature`.
      postprocessing_step: function that runs on the CPU on the outputs of the model.
      postprocessing_step_signature: as preprocessing_step_signature.
      purge_export_dir: replaces what is in `export_dir`, once the new model is complete.
      timeout_us, dynamic_batch, replicas, target_cpu, progress, max_wait_us, smaller_batches, target,
      device_plugin: see export_single_step().

    Returns:
      A tf.function that runs the exported executable in this process. It takes the inputs by position, and
      returns a list of the outputs, ordered as tf.nest flattens what the model returns; see
      export_single_step().

    Raises:
      ValueError: the model was not created inside an IPU strategy; the batch size is not known; a layer of a
        pipelined model has no stage; and all that export_single_step() and export_pipeline() raise.
      TypeError: an argument has a wrong type.
      tf.errors.ResourceExhaustedError: the model is larger than the device's memory.
    """
    model_methods.require_ipu_strategy(model)
    inputs = model_inputs.describe(model, batch_size)
    layer_calls.build(model, inputs.structure)
    stages = _stages(model, inputs)
    options = model_methods.pipelining_options(model)
    name = program_name(model, model.name)
    names = [f"stage {number} of '{name}'" for number in range(len(stages))] if len(stages) > 1 else [name]
    program = ProgramOptions(_steps_per_execution(model), name)
    if len(stages) > 1:
        layout = pipeline_layout(
            len(stages),
            options.device_mapping,
            options.pipeline_schedule,
            options.stage_options,
        )
        program = ProgramOptions(
            iterations=program.iterations,
            name=program_name(None, options.name or name),
            device_mapping=layout.device_mapping,
            num_ipus=layout.num_ipus,
            schedule=layout.schedule.name.upper(),
            hold=layout.hold,
            options=layout.options,
        )
    return export_stages(
        stages,
        names,
        export_dir,
        program,
        signature=inputs.signature,
        output_names=output_names,
        preprocessing=HostStepArguments(preprocessing_step, preprocessing_step_signature),
        postprocessing=HostStepArguments(postprocessing_step, postprocessing_step_signature),
        options=ExportOptions(
            purge_export_dir=purge_export_dir,
            timeout_us=timeout_us,
            dynamic_batch=dynamic_batch,
            replicas=replicas,
            target_cpu=target_cpu,
            progress=progress,
            max_wait_us=max_wait_us,
            smaller_batches=smaller_batches,
            target=target,
            device_plugin=device_plugin,
        ),
    )


def _stages(model: Any, inputs: ModelInputs) -> list[Callable]:
    """The model as one function of flat tensors, or as one for each pipeline stage."""

    @tf.autograph.experimental.do_not_convert
    def whole(*tensors: tf.Tensor) -> Any:
        args, kwargs = inputs.arguments(tensors)
        return model(*args, **kwargs, training=False)

    stages: list[Callable] = [whole]
    if model_stages.may_be_pipelined(model):
        stages = model_stages.stage_functions(model, inputs) or stages
    _name_parameters(stages[0], inputs.signature)
    return stages


def _name_parameters(function: Callable, signature: Sequence[tf.TensorSpec]) -> None:
    """Names the function's parameters, and by that the SavedModel's inputs, as the model's inputs are."""
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(str(spec.name), inspect.Parameter.POSITIONAL_ONLY) for spec in signature]
    )


def _steps_per_execution(model: Any) -> int:
    steps = getattr(model, "steps_per_execution", None)  # Keras 3
    if steps is None:
        steps = getattr(model, "_steps_per_execution", None)  # tf_keras: a variable, or None before compile()
    return 1 if steps is None else int(steps)
