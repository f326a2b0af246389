"""Compiler, executables and engines. Import it through tensorflow_ipu._runtime, never directly."""

from collections.abc import Callable, Sequence
from typing import Any

class StatusError(Exception):
    """An error of the native code. `code` is one of tensorflow.errors' codes."""

    code: int
    message: str
    def __init__(self, code: int, message: str) -> None: ...

class EngineHandle:
    """Keeps an engine running until it is released or collected."""

    @property
    def name(self) -> str: ...
    @property
    def holds(self) -> bool:
        """False once released."""
    def release(self) -> None:
        """Lets go of the engine, which ends if nobody else holds it; waits for its end then. Idempotent."""

def compile(
    header_json: str,
    stage_hlo: Sequence[bytes],
    path: str,
    weight_threshold: int = 1024,
    progress: Callable[[str, float], object] | None = None,
    initial_values: Sequence[bytes] = (),
    row_variants: Sequence[tuple[int, Sequence[bytes]]] = (),
    plugin: dict[str, str] = {},
    topology_options: dict[str, str] = {},
) -> None:
    """Compiles HLO modules ahead of time and writes an executable file.

    Args:
      header_json: An ExecutableHeader (cc/executable/executable.proto) in proto3 JSON, without what the
        compiler fills in (cc/compiler/compiler.h).
      stage_hlo: A serialised xla.HloModuleProto for each stage of the header.
      path: Where the file goes; it appears there whole or not at all.
      weight_threshold: Constants of at least so many bytes leave the code and become weights.
      progress: Called in this thread with what is being done and the share done so far, from 0 to 1. An
        exception that it raises is raised here, after compiling.
      initial_values: Bytes of the constants that carried values start as (CompileOptions::initial_values).
      row_variants: Numbers of rows below the batch, ascending, each with HLO for every stage.
      plugin: For a PJRT target: path, package and version of the plugin, and topology_name.
      topology_options: For a PJRT target whose devices need not be here (PjrtCompileOptions).

    Raises:
      StatusError: The header or the HLO is not valid, an operation cannot be compiled, or a stage needs more
        memory than its IPU has.
    """

def add_device_plugin(path: str, package: str = "", version: str = "") -> None:
    """Lets executables of PJRT targets use the plugin. Loads nothing."""

def inspect(path: str) -> str:
    """The ExecutableHeader of a file in proto3 JSON, fields named as in the proto. Checks the whole file.

    Raises:
      StatusError: There is no such file, or it is damaged or no executable.
    """

def digest(path: str) -> str:
    """SHA-256 of an executable file's contents in hexadecimal. Raises StatusError as inspect() does."""

def check_compatibility(path: str) -> None:
    """Raises StatusError, which names the first difference, if the executable cannot run in this process."""

def runtime_identity() -> str:
    """What runs in this process, in JSON: {"build": Build}, as in cc/executable/executable.proto."""

def offers() -> list[tuple[str, str]]:
    """Targets that can be run in this process: each a Target of executable.proto in JSON, and why it cannot
    be used after all, or ""."""

def keep_engine(name: str) -> EngineHandle:
    """Keeps the running engine of that name. Raises StatusError when none runs."""

def stop_engine(name: str) -> None:
    """Stops the engine of that name, whoever holds it; what waits fails with Cancelled.

    Raises:
      StatusError: None runs.
    """

def engine_names() -> list[str]:
    """Names of the running engines, sorted."""

def engine_statistics(name: str) -> dict[str, Any]:
    """Counters of a running engine as in cc/engine/statistics.h. A histogram is a dict with count, sum, mean,
    p50, p90, p99 and max; times are in microseconds. Raises StatusError when none runs."""

def record_steps(path: str, output: str, steps: int = 4, seed: int = 1) -> None:
    """Runs an executable on random steps and writes them with its answers, for device_check.

    Raises:
      StatusError: The executable cannot run here, or the file cannot be written.
    """

class LoadProgram:
    """An executable, loaded on the emulator to be put under load.

    Args:
      path: Of the executable file.
      iterations: Steps of a run; 0: the executable's own.

    Raises:
      StatusError: The file is no executable, or cannot run here.
    """

    def __init__(self, path: str, iterations: int = 0) -> None: ...
    def drive(
        self,
        *,
        concurrency: int = 1,
        rate: float = 0.0,
        rows: int = 0,
        seconds: float = 2.0,
        warm_up_seconds: float = 0.2,
        timeout_us: int = -1,
        replicas: int = 0,
        max_wait_us: int = -1,
        progress: Callable[[float], object] | None = None,
    ) -> dict[str, Any]:
        """Starts an engine, calls it with random feeds (random start-up inputs, too), and stops it.

        Args:
          concurrency: Calls in flight, when `rate` is 0.
          rate: Calls per second that arrive at random, whether or not earlier ones were answered.
          rows: Rows of each call of a program with row batching; 0: its batch.
          timeout_us, max_wait_us: -1: the executable's own. replicas: 0: the executable's own.
          progress: Called with the share of the time that is over. What it raises ends the load and is raised
            here.

        Returns:
          calls and failed (of those due after the warm-up), failure (the first one's text, or ""), seconds;
          mean, p50, p90, p99, p999 and max of the latency in microseconds, from when a call was due; steps,
          dummy_steps, rows and padded_rows of the engine.

        Raises:
          StatusError: Options that make no sense.
        """
