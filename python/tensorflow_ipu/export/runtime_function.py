"""The function that an export returns: the executable, run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tensorflow_ipu import engines
from tensorflow_ipu._runtime import native
from tensorflow_ipu.export.saved_model import ServedProgram


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
