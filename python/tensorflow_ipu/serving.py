"""Exports precompiled models for TensorFlow Serving.

An export traces functions, compiles them ahead of time into an executable for the device, and writes a
SavedModel with the executable as an asset, which `tensorflow_model_server` serves:

    pre-processing (CPU, optional) -> device -> post-processing (CPU, optional)

Inputs of the SavedModel are named by the parameters of the first function; outputs are `output_0`,
`output_1`, ... or `output_names`. Variables are frozen: they are constants in the exported model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tensorflow_ipu.export import (
    ExportOptions,
    HostStepArguments,
    ProgramOptions,
    export_stages,
    program_name,
)
from tensorflow_ipu.keras.export import export_keras
from tensorflow_ipu.program import DEFAULT_TARGET_CPU, DEFAULT_TIMEOUT_US
from tensorflow_ipu.program.layout import PipelineSchedule, PipelineStageOptions, pipeline_layout
from tensorflow_ipu.progress import ProgressCallback

__all__ = ["export_keras", "export_pipeline", "export_single_step"]


def export_single_step(
    predict_step: Callable,
    export_dir: str,
    iterations: int,
    predict_step_signature: Any = None,
    input_dataset: Any = None,
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
    """Exports a function that runs on one device.

    Args:
      predict_step: Python function or tf.function from tensors to tensors (one, or any nest of them).
      export_dir: folder of the SavedModel, which may be a `file://` URL; it must be empty or not exist.
      iterations: steps in one run of the main program. Each step takes one batch.
      predict_step_signature: list or tuple of tf.TensorSpec, one for each parameter of `predict_step`. Not
        needed when `input_dataset` is given, or `predict_step` is a tf.function with an `input_signature`.
      input_dataset: tf.data.Dataset whose elements are what the first step takes: `preprocessing_step` when
        there is one, else `predict_step`.
      output_names: a string, or a list of strings, one for each output. None: "output_0", "output_1", ...
      preprocessing_step: function that runs on the CPU ahead of `predict_step`, which takes its outputs.
      preprocessing_step_signature: as predict_step_signature.
      postprocessing_step: function that runs on the CPU on the outputs of `predict_step`.
      postprocessing_step_signature: as predict_step_signature.
      purge_export_dir: replaces what is in `export_dir`, once the new model is complete.
      timeout_us: how long, in microseconds, results may be held back in the device for want of further
        batches.
      dynamic_batch: the leading dimension of every input and output counts rows that do not depend on each
        other. The SavedModel takes any number of rows; the device works on as many at a time as the signature
        says.
      replicas: emulated devices that run the program behind one queue. None: one in this process, and as
        many as keep its cores busy on a server.
      target_cpu: name of the CPU, as LLVM knows it, that code is generated for.
      progress: None for a progress bar when stderr is a terminal, True or False, or a function that is called
        with what is being done and the share done so far.
      max_wait_us: with dynamic_batch, how long, in microseconds, rows may wait for others to fill a step. 0:
        they never wait; while the device works on a step, the next one gathers.
      smaller_batches: with dynamic_batch, numbers of rows below the batch that code is generated for as well,
        so that a step of few rows costs little. None: 1, 4, 16, ... if the program's results do not depend on
        the batch; (): none.
      target: what code is generated for. "ipu": emulated IPUs. "cuda:h100", "tpu:v5e" and others (see
        targets.target_names()): a device that need not be here, by the PJRT plugin of an installed package.
        "cuda", "tpu", "cpu-pjrt": the devices of this machine. The model runs on that device, by that plugin.
      device_plugin: path of the plugin's library. None: that of an installed package.

    Returns:
      A tf.function from the SavedModel's inputs, tensors or arrays by position, to its outputs, that runs the
      exported executable in this process. It returns a dictionary by name where `output_names` was given,
      else what `postprocessing_step` returns, else a list of the outputs (of one as well).

    Raises:
      ValueError: `export_dir` is not empty; there is no signature, or two; lengths, shapes or dtypes do not
        match; an operation has no kernel for the device; a shape is dynamic.
      TypeError: an argument has a wrong type.
      tf.errors.ResourceExhaustedError: the model is larger than the device's memory.
    """
    return export_stages(
        [predict_step],
        ["predict_step"],
        export_dir,
        ProgramOptions(iterations, program_name(predict_step, "predict_step")),
        signature=predict_step_signature,
        input_dataset=input_dataset,
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


def export_pipeline(
    computational_stages: Sequence[Callable],
    export_dir: str,
    iterations: int,
    inputs: Sequence[Any] | None = None,
    device_mapping: Sequence[int] | None = None,
    pipeline_schedule: PipelineSchedule | None = None,
    poplar_options: Sequence[PipelineStageOptions] | None = None,
    name: str | None = None,
    predict_step_signature: Any = None,
    input_dataset: Any = None,
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
    """Exports a pipeline: functions that run one behind the other, each on an IPU of its own.

    Args:
      computational_stages: at least two Python functions or tf.functions. The first takes `inputs` and what
        is fed; each other one takes the results of the stage before it.
      export_dir: folder of the SavedModel, which may be a `file://` URL; it must be empty or not exist.
      iterations: times each stage runs before the pipeline restarts.
      inputs: constants for the first stage, ahead of what is fed.
      device_mapping: the IPU of each stage. None: stage k is on IPU k.
      pipeline_schedule: PipelineSchedule. None: Grouped.
      poplar_options: a PipelineStageOptions for each stage.
      name: of the pipeline.
      predict_step_signature: list or tuple of tf.TensorSpec, one for each parameter of the first stage, or
        for those behind `inputs` alone. Not needed when `input_dataset` is given, or the first stage is a
        tf.function with an `input_signature`.
      input_dataset, output_names, preprocessing_step, preprocessing_step_signature, postprocessing_step,
      postprocessing_step_signature, purge_export_dir, timeout_us, dynamic_batch, replicas, target_cpu,
      progress, max_wait_us, smaller_batches, target, device_plugin: see export_single_step(). With a
      preprocessing step, the dataset describes what that takes.

    Returns:
      A tf.function that runs the exported executable in this process: see export_single_step().

    Raises:
      ValueError: fewer than two stages; `device_mapping` has not one entry a stage, or names an IPU that is
        not configured; and all that export_single_step() raises.
      TypeError: an argument has a wrong type.
      tf.errors.ResourceExhaustedError: a stage is larger than the memory of its IPU.
    """
    if not isinstance(computational_stages, (list, tuple)):
        raise TypeError(
            f"`computational_stages` must be a list of functions, not a "
            f"{type(computational_stages).__name__}."
        )
    if name is not None and not isinstance(name, str):
        raise TypeError(f"`name` must be a string, but a {type(name).__name__} was given.")
    layout = pipeline_layout(
        len(computational_stages),
        device_mapping,
        pipeline_schedule,
        poplar_options,
        "poplar_options",
    )
    stage_names = [f"computational_stages[{position}]" for position in range(len(computational_stages))]
    return export_stages(
        computational_stages,
        stage_names,
        export_dir,
        ProgramOptions(
            iterations=iterations,
            name=program_name(None, name or "pipeline"),
            device_mapping=layout.device_mapping,
            num_ipus=layout.num_ipus,
            schedule=layout.schedule.name.upper(),
            hold=layout.hold,
            options=layout.options,
        ),
        signature=predict_step_signature,
        input_dataset=input_dataset,
        output_names=output_names,
        preprocessing=HostStepArguments(preprocessing_step, preprocessing_step_signature),
        postprocessing=HostStepArguments(postprocessing_step, postprocessing_step_signature),
        leading_constants=_constants(inputs),
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


def _constants(inputs: Any) -> list[Any]:
    if inputs is None:
        return []
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
