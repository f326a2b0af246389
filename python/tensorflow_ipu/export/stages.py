"""The way of a model from Python functions to a SavedModel with an executable, as a straight line:

signature -> trace and freeze -> fold -> lower each stage to HLO -> compile to an executable -> SavedModel ->
the function returned to the user.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from tensorflow_ipu.config import export_target
from tensorflow_ipu.config.targets import PjrtTarget, resolve_target
from tensorflow_ipu.export.export_dir import check_export_dir, existing_parent, replace_directory
from tensorflow_ipu.export.host_steps import HostStep, host_step
from tensorflow_ipu.export.options import ExportOptions, HostStepArguments, ProgramOptions
from tensorflow_ipu.export.row_batching import (
    batch_of,
    check_rows,
    row_variants,
    rows_relaxed,
    warn_of_dependent_rows,
    with_any_rows,
)
from tensorflow_ipu.export.row_independence import TrialError
from tensorflow_ipu.export.runtime_function import engine_name, runtime_function
from tensorflow_ipu.export.saved_model import EXECUTABLE_NAME, ServedProgram, write_saved_model
from tensorflow_ipu.export.signatures import (
    bind_constants,
    check_input_dataset,
    check_output_names,
    check_step_boundary,
    deduce_signature,
    parameter_names,
    resolve_output_names,
)
from tensorflow_ipu.integers import as_integer
from tensorflow_ipu.lowering import LoweredFunction, TracedFunction, fold, freeze, lower, trace
from tensorflow_ipu.program import (
    DeviceTarget,
    Program,
    RowVariant,
    Source,
    Stage,
    ValueRef,
    compile_program,
)
from tensorflow_ipu.program.device_mapping import check_configured
from tensorflow_ipu.progress import ProgressCallback, part_of, resolve_progress

_log = logging.getLogger("tensorflow_ipu")


def export_stages(
    stages: Sequence[Callable],
    stage_names: Sequence[str],
    export_dir: str,
    program_options: ProgramOptions,
    *,
    signature: Any = None,
    input_dataset: Any = None,
    output_names: Any = None,
    preprocessing: HostStepArguments | None = None,
    postprocessing: HostStepArguments | None = None,
    leading_constants: Sequence[Any] = (),
    options: ExportOptions | None = None,
) -> Any:
    """Exports a program of one or several stages.

    Args:
      stages: functions of tensors; the first takes the feeds, each other one the results of the stage before
        it.
      stage_names: what to call them in messages.
      signature: list or tuple of TensorSpec for the first stage, or None.
      leading_constants: passed to the first stage ahead of the feeds.
      The others: see tensorflow_ipu.serving.

    Returns:
      A tf.function from the SavedModel's inputs to its outputs, which runs the executable in this process;
      see runtime_function().
    """
    if not tf.executing_eagerly():
        raise RuntimeError(
            "A model is exported with eager execution: outside of tf.Graph and tf.function, and without "
            "tf.compat.v1.disable_v2_behavior(). In a graph, use application_compile_op."
        )
    options = (options or ExportOptions()).checked()
    pjrt = resolve_target(options.target, options.device_plugin)
    if pjrt is None:
        check_configured(program_options.device_mapping)
    program_options = replace(
        program_options, iterations=as_integer("iterations", program_options.iterations, 1)
    )
    progress = resolve_progress(options.progress)
    export_dir = check_export_dir(export_dir, options.purge_export_dir)
    names = check_output_names(output_names)
    check_input_dataset(input_dataset)

    progress("reading signatures", 0.0)
    before = preprocessing if preprocessing is not None and preprocessing.function is not None else None
    after = postprocessing if postprocessing is not None and postprocessing.function is not None else None
    constants, feeds = bind_constants(
        stages[0],
        stage_names[0],
        signature,
        "predict_step_signature",
        None if before else input_dataset,
        leading_constants,
    )
    batch = batch_of(feeds, stage_names[0]) if options.dynamic_batch else None
    host_before = _trace_preprocessing(before, input_dataset, batch) if before else None
    if host_before is not None:
        check_step_boundary("preprocessing_step", host_before.results, stage_names[0], feeds)

    traced, lowered = _lower_stages(stages, stage_names, feeds, constants, part_of(progress, 0.05, 0.25))
    results = [tf.TensorSpec(spec.shape, spec.dtype) for spec in lowered[-1].results]
    variants: list[RowVariant] = []
    if batch is not None:
        check_rows(results, batch, stage_names[-1])
        progress("lowering for fewer rows", 0.25)
        try:
            warn_of_dependent_rows(traced, feeds)
            variants = row_variants(
                lambda specs: _lower_stages(stages, stage_names, specs, constants, lambda what, share: None),
                feeds,
                traced,
                lowered,
                batch,
                options.smaller_batches,
            )
        except TrialError as error:
            _log.warning(
                "dynamic_batch: the program could not be tried with random values (%s). It is exported, but"
                " it is not known whether rows depend on each other, and few rows cost what %d do.",
                error,
                batch,
            )
        results = [with_any_rows(spec) for spec in results]
    host_after = _trace_postprocessing(after, batch) if after else None
    if host_after is not None:
        check_step_boundary(stage_names[-1], results, "postprocessing_step", host_after.parameters)
    output_count = len(host_after.results if host_after is not None else results)
    names = resolve_output_names(names, output_count)

    inputs = list(host_before.parameters) if host_before is not None else feeds
    if host_before is None and batch is not None:
        inputs = [with_any_rows(spec) for spec in feeds]
    program = _make_program(lowered, variants, stage_names, feeds, program_options, options, pjrt)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=existing_parent(export_dir)) as workspace:
        executable = os.path.join(workspace, EXECUTABLE_NAME)
        compile_program(program, executable, part_of(progress, 0.35, 0.9))
        progress("writing the SavedModel", 0.9)
        served = ServedProgram(
            engine_name=engine_name(program.name, executable),
            timeout_us=options.timeout_us,
            inputs=inputs,
            results=results,
            output_names=names,
            preprocessing=host_before,
            postprocessing=host_after,
        )
        written = os.path.join(workspace, "saved_model")
        write_saved_model(served, executable, written)
        os.remove(executable)
        replace_directory(written, export_dir)
    progress("done", 1.0)
    executable = os.path.join(export_dir, "assets", EXECUTABLE_NAME)
    return runtime_function(served, executable, named=output_names is not None)


def program_name(function: Any, default: str) -> str:
    """A name for people and for the engine, of letters that are allowed in an attribute of an op."""
    name = getattr(getattr(function, "python_function", function), "__name__", "") or default
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_") or default


def _trace_preprocessing(step: HostStepArguments, input_dataset: Any, batch: int | None) -> HostStep:
    assert step.function is not None
    signature = deduce_signature(
        step.function, "preprocessing_step", step.signature, "preprocessing_step_signature", input_dataset
    )
    return host_step(step.function, "preprocessing_step", rows_relaxed(signature, batch))


def _trace_postprocessing(step: HostStepArguments, batch: int | None) -> HostStep:
    assert step.function is not None
    signature = deduce_signature(
        step.function, "postprocessing_step", step.signature, "postprocessing_step_signature"
    )
    return host_step(step.function, "postprocessing_step", rows_relaxed(signature, batch))


def _lower_stages(
    stages: Sequence[Callable],
    stage_names: Sequence[str],
    feeds: Sequence[tf.TensorSpec],
    constants: Sequence[Any],
    progress: ProgressCallback,
) -> tuple[list[TracedFunction], list[LoweredFunction]]:
    """Each stage traced and frozen, and lowered. Only the latter knows all shapes that the next stage
    takes."""
    traced: list[TracedFunction] = []
    lowered: list[LoweredFunction] = []
    for position, (stage, name) in enumerate(zip(stages, stage_names, strict=True)):
        progress(f"tracing {name}", position / len(stages))
        if position == 0:
            taken = list(feeds)
            function = _bind(stage, constants) if constants else stage
        else:
            taken = list(lowered[-1].results)
            _check_parameter_count(stage, name, stage_names[position - 1], len(taken))
            own = getattr(stage, "input_signature", None)
            if own is not None:
                check_step_boundary(stage_names[position - 1], taken, name, list(own))
            function = stage
        traced.append(freeze(trace(function, taken, name)))
        progress(f"lowering {name}", (position + 0.5) / len(stages))
        lowered.append(lower(fold(traced[-1])))
    return traced, lowered


def _check_parameter_count(stage: Callable, name: str, producer: str, results: int) -> None:
    try:
        parameter_names(stage, results, name)
    except ValueError as error:
        raise ValueError(
            f"The outputs of `{producer}` do not match the inputs of `{name}`: it returns {results} tensors. "
            f"{error}"
        ) from None


def _bind(stage: Callable, constants: Sequence[Any]) -> Callable:
    def bound(*feeds: tf.Tensor) -> Any:
        return stage(*constants, *feeds)

    return bound


def _make_program(
    lowered: Sequence[LoweredFunction],
    variants: Sequence[RowVariant],
    stage_names: Sequence[str],
    feeds: Sequence[tf.TensorSpec],
    program_options: ProgramOptions,
    options: ExportOptions,
    pjrt: PjrtTarget | None,
) -> Program:
    target = export_target()
    stages = []
    for position, (function, name) in enumerate(zip(lowered, stage_names, strict=True)):
        source = Source.INFEED if position == 0 else Source.STAGE_RESULT
        stages.append(
            Stage(
                name=name,
                ipu=program_options.device_mapping[position],
                hlo=function.hlo,
                arguments=[
                    ValueRef(source, index, max(position - 1, 0)) for index in range(len(function.inputs))
                ],
            )
        )
    last = len(stages) - 1
    results = range(len(lowered[-1].results))
    return Program(
        name=program_options.name,
        stages=stages,
        infeeds=feeds,
        outfeed_names=[f"output_{index}" for index in results],
        outfeed_values=[ValueRef(Source.STAGE_RESULT, index, last) for index in results],
        iterations=program_options.iterations,
        schedule=program_options.schedule,
        hold=program_options.hold or target.io_tiles_hold,
        timeout_us=options.timeout_us,
        dynamic_batch=options.dynamic_batch,
        max_wait_us=options.max_wait_us,
        row_variants=variants,
        replicas=options.replicas or 0,
        target=DeviceTarget(
            architecture=target.architecture,
            num_ipus=program_options.num_ipus,
            tiles_per_ipu=target.tiles_per_ipu,
            memory_per_tile=target.memory_per_tile,
            cpu=options.target_cpu,
            remote_buffers=target.remote_buffers,
            pjrt=pjrt,
        ),
        floating_point={"inv": target.inv, "div0": target.div0, "oflo": target.oflo},
        options={**target.options, **program_options.options},
    )
