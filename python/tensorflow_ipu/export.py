"""The way of a model from Python functions to a SavedModel with an executable, as a straight line:

signature -> trace and freeze -> fold -> lower each stage to HLO -> compile to an executable -> SavedModel ->
the function returned to the user.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tensorflow as tf

from tensorflow_ipu import engines
from tensorflow_ipu._runtime import native
from tensorflow_ipu.config import export_target
from tensorflow_ipu.device_mapping import check_configured
from tensorflow_ipu.host_steps import HostStep, host_step
from tensorflow_ipu.integers import as_integer
from tensorflow_ipu.local_path import local_path
from tensorflow_ipu.lowering import LoweredFunction, TracedFunction, fold, freeze, lower, trace
from tensorflow_ipu.program import (
    DEFAULT_TARGET_CPU,
    DEFAULT_TIMEOUT_US,
    DeviceTarget,
    Program,
    RowVariant,
    Source,
    Stage,
    ValueRef,
    compile_program,
)
from tensorflow_ipu.progress import ProgressCallback, part_of, resolve_progress
from tensorflow_ipu.row_independence import TrialError, dependent_results
from tensorflow_ipu.row_variants import make_variants, row_counts
from tensorflow_ipu.saved_model import EXECUTABLE_NAME, ServedProgram, write_saved_model
from tensorflow_ipu.signatures import (
    bind_constants,
    check_input_dataset,
    check_output_names,
    check_step_boundary,
    deduce_signature,
    parameter_names,
    resolve_output_names,
)
from tensorflow_ipu.targets import PjrtTarget, resolve_target

_log = logging.getLogger("tensorflow_ipu")


@dataclass(frozen=True)
class ExportOptions:
    """Arguments that all exports share.

    timeout_us: microseconds without a further batch after which a dummy batch pushes real ones through a
      device that holds them back.
    dynamic_batch: the leading dimension of every input and output counts rows that do not depend on each
      other; the SavedModel takes any number of rows, and the device works on as many at a time as the
      signature says.
    replicas: emulated devices that run the program behind one queue. None: one; the server chooses by its
      cores.
    max_wait_us: with dynamic_batch, microseconds that rows may wait for others to fill a step; 0: none.
    smaller_batches: with dynamic_batch, numbers of rows below the batch that code is generated for as well.
      None: 1, 4, 16, ... as far as the program allows it.
    target_cpu: name of the CPU, as LLVM knows it, that code is generated for.
    progress: see tensorflow_ipu.progress.resolve_progress().
    target, device_plugin: see tensorflow_ipu.targets.resolve_target().
    """

    purge_export_dir: bool = False
    timeout_us: int = DEFAULT_TIMEOUT_US
    dynamic_batch: bool = False
    replicas: int | None = None
    target_cpu: str = DEFAULT_TARGET_CPU
    progress: ProgressCallback | bool | None = None
    max_wait_us: int = 0
    smaller_batches: Sequence[int] | None = None
    target: str = "ipu"
    device_plugin: str | None = None

    def checked(self) -> ExportOptions:
        """The same with plain ints and bools.

        Raises:
          TypeError, ValueError: an option has a wrong type or value.
        """
        smaller = self.smaller_batches
        checked = replace(
            self,
            purge_export_dir=bool(self.purge_export_dir),
            timeout_us=as_integer("timeout_us", self.timeout_us, 1),
            dynamic_batch=bool(self.dynamic_batch),
            replicas=None if self.replicas is None else as_integer("replicas", self.replicas, 1),
            max_wait_us=as_integer("max_wait_us", self.max_wait_us, 0),
            smaller_batches=None
            if smaller is None
            else [as_integer("smaller_batches", rows, 1) for rows in smaller],
        )
        if not checked.dynamic_batch and (checked.max_wait_us or checked.smaller_batches):
            raise ValueError("`max_wait_us` and `smaller_batches` are for models with dynamic_batch=True.")
        if not isinstance(self.target_cpu, str) or not self.target_cpu:
            raise TypeError(f"`target_cpu` must be the name of a CPU, not {self.target_cpu!r}.")
        return checked


@dataclass(frozen=True)
class HostStepArguments:
    """A pre- or postprocessing step as the user gave it."""

    function: Callable | None
    signature: Any


@dataclass(frozen=True)
class ProgramOptions:
    """What is particular to a pipeline; the defaults are those of a single step."""

    iterations: int
    name: str
    device_mapping: Sequence[int] = (0,)
    num_ipus: int = 1
    schedule: str = "GROUPED"
    hold: int = 0
    options: Mapping[str, str] = field(default_factory=dict)


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
    batch = _batch_of(feeds, stage_names[0]) if options.dynamic_batch else None
    host_before = _trace_preprocessing(before, input_dataset, batch) if before else None
    if host_before is not None:
        check_step_boundary("preprocessing_step", host_before.results, stage_names[0], feeds)

    traced, lowered = _lower_stages(stages, stage_names, feeds, constants, part_of(progress, 0.05, 0.25))
    results = [tf.TensorSpec(spec.shape, spec.dtype) for spec in lowered[-1].results]
    variants: list[RowVariant] = []
    if batch is not None:
        _check_rows(results, batch, stage_names[-1])
        progress("lowering for fewer rows", 0.25)
        try:
            _warn_of_dependent_rows(traced, feeds)
            variants = _row_variants(
                stages, stage_names, feeds, constants, traced, lowered, batch, options.smaller_batches
            )
        except TrialError as error:
            _log.warning(
                "dynamic_batch: the program could not be tried with random values (%s). It is exported, but"
                " it is not known whether rows depend on each other, and few rows cost what %d do.",
                error,
                batch,
            )
        results = [_with_any_rows(spec) for spec in results]
    host_after = _trace_postprocessing(after, batch) if after else None
    if host_after is not None:
        check_step_boundary(stage_names[-1], results, "postprocessing_step", host_after.parameters)
    output_count = len(host_after.results if host_after is not None else results)
    names = resolve_output_names(names, output_count)

    inputs = list(host_before.parameters) if host_before is not None else feeds
    if host_before is None and batch is not None:
        inputs = [_with_any_rows(spec) for spec in feeds]
    program = _make_program(lowered, variants, stage_names, feeds, program_options, options, pjrt)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=_existing_parent(export_dir)) as workspace:
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


def engine_name(program_name: str, executable: str) -> str:
    """Unique for the executable's contents, and readable."""
    return f"{program_name}_{native.digest(executable)[:16]}"


def runtime_function(program: ServedProgram, executable: str, named: bool) -> Any:
    """A tf.function that runs the executable in this process. Its engine is started now and lives as long as
    it.

    It takes tensors or arrays by position. It returns a dictionary by output name with `named`, else what a
    post-processing step returns, else a list of the device's results. Where this machine does not have the
    device that the executable is for, the function raises FailedPreconditionError, which says why.
    """
    if (reason := why_not_here(executable)) is not None:
        return unusable_function(reason)
    _, engine = engines.start_engine([], executable, program.engine_name, program.timeout_us)

    @tf.function(input_signature=list(program.inputs), autograph=False)
    def run(*inputs: tf.Tensor) -> Any:
        assert engine.holds
        outputs = program.run(inputs, tf.constant(0))
        if named:
            return dict(zip(program.output_names, outputs, strict=True))
        if program.postprocessing is not None:
            return program.postprocessing.structured(outputs)
        return outputs

    # Traced here: a first call that traces counts as a retracing of all functions made from this code.
    run.get_concrete_function()
    return run


def why_not_here(executable: str) -> str | None:
    """Why an executable for a PJRT device cannot run in this process; None when it can, or is for IPUs."""
    if "pjrt" not in json.loads(native.inspect(executable))["target"]:
        return None
    try:
        native.check_compatibility(executable)
    except native.StatusError as error:
        return error.message
    return None


def unusable_function(reason: str) -> Callable:
    """What an export returns whose executable cannot run here."""

    def run(*inputs: Any) -> Any:
        raise tf.errors.FailedPreconditionError(None, None, reason)

    return run


def check_export_dir(export_dir: Any, purge_export_dir: bool) -> str:
    """The folder's absolute path.

    Raises:
      TypeError: it is not a path.
      ValueError: it is a file, holds files that are not to be purged, or is not on the local file system.
    """
    path = os.path.abspath(os.path.expanduser(local_path("export_dir", export_dir)))
    if os.path.exists(path) and not os.path.isdir(path):
        raise ValueError(f"The export directory {path} is a file.")
    if os.path.isdir(path) and os.listdir(path) and not purge_export_dir:
        raise ValueError(
            f"The export directory {path} is not empty. Choose another one, or pass purge_export_dir=True to "
            "replace what is in it."
        )
    return path


def replace_directory(source: str, target: str) -> None:
    """Moves `source` to `target`. What was in `target` is deleted only after the new contents are
    complete."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    retired = None
    if os.path.isdir(target) and os.listdir(target):
        retired = tempfile.mkdtemp(prefix=".purged-", dir=os.path.dirname(target))
        os.rename(target, os.path.join(retired, "old"))
    os.rename(source, target)
    if retired is not None:
        shutil.rmtree(retired)


def program_name(function: Any, default: str) -> str:
    """A name for people and for the engine, of letters that are allowed in an attribute of an op."""
    name = getattr(getattr(function, "python_function", function), "__name__", "") or default
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_") or default


def _existing_parent(path: str) -> str:
    """The nearest folder above that exists: on the file system that `path` will be on."""
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return parent


def _trace_preprocessing(step: HostStepArguments, input_dataset: Any, batch: int | None) -> HostStep:
    assert step.function is not None
    signature = deduce_signature(
        step.function, "preprocessing_step", step.signature, "preprocessing_step_signature", input_dataset
    )
    return host_step(step.function, "preprocessing_step", _rows_relaxed(signature, batch))


def _trace_postprocessing(step: HostStepArguments, batch: int | None) -> HostStep:
    assert step.function is not None
    signature = deduce_signature(
        step.function, "postprocessing_step", step.signature, "postprocessing_step_signature"
    )
    return host_step(step.function, "postprocessing_step", _rows_relaxed(signature, batch))


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


# Row batching


def _batch_of(feeds: Sequence[tf.TensorSpec], name: str) -> int:
    """The number of rows that the device works on at a time."""
    for spec in feeds:
        if spec.shape.rank is None or spec.shape.rank < 1 or spec.shape[0] is None:
            raise ValueError(
                f"dynamic_batch: input '{spec.name}' of `{name}` has the shape {spec.shape}, but must have a "
                "leading dimension of known size, which is how many rows the device works on at a time."
            )
    batches = {spec.shape[0] for spec in feeds}
    if len(batches) > 1:
        listing = ", ".join(f"'{spec.name}' {spec.shape}" for spec in feeds)
        raise ValueError(
            f"dynamic_batch: the inputs of `{name}` must have the same leading dimension, but they are "
            f"{listing}."
        )
    return batches.pop()


def _check_rows(results: Sequence[tf.TensorSpec], batch: int, name: str) -> None:
    for position, spec in enumerate(results):
        if spec.shape.rank < 1 or spec.shape[0] != batch:
            raise ValueError(
                f"dynamic_batch: result {position} of `{name}` has the shape {spec.shape}, but its leading "
                f"dimension must be that of the inputs ({batch}): each row of a result must come from the "
                "same row of the inputs."
            )


def _warn_of_dependent_rows(traced: Sequence[TracedFunction], feeds: Sequence[tf.TensorSpec]) -> None:
    positions = dependent_results(traced, feeds)
    if positions:
        _log.warning(
            "dynamic_batch: the rows of result %s seem to depend on other rows of the batch than their own. "
            "Requests share a batch, so one caller's rows would change another's results.",
            ", ".join(map(str, positions)),
        )


def _row_variants(
    stages: Sequence[Callable],
    stage_names: Sequence[str],
    feeds: Sequence[tf.TensorSpec],
    constants: Sequence[Any],
    traced: Sequence[TracedFunction],
    lowered: Sequence[LoweredFunction],
    batch: int,
    smaller_batches: Sequence[int] | None,
) -> list[RowVariant]:
    def lower_stages(
        specs: Sequence[tf.TensorSpec],
    ) -> tuple[list[TracedFunction], list[LoweredFunction]]:
        return _lower_stages(stages, stage_names, specs, constants, lambda what, share: None)

    counts = row_counts(smaller_batches, batch)
    variants, reason = make_variants(counts, lower_stages, feeds, traced, lowered)
    if reason and smaller_batches is not None:
        raise ValueError(f"smaller_batches: the program {reason}.")
    if reason:
        _log.info("dynamic_batch: few rows cost what %d do, as the program %s.", batch, reason)
    return variants


def _with_any_rows(spec: tf.TensorSpec) -> tf.TensorSpec:
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype, spec.name)


def _rows_relaxed(signature: Sequence[tf.TensorSpec], batch: int | None) -> list[tf.TensorSpec]:
    """Leaves the number of rows open where the signature gives that of the device."""
    return [
        _with_any_rows(spec) if batch is not None and spec.shape.rank and spec.shape[0] == batch else spec
        for spec in signature
    ]
