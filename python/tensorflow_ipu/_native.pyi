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
        """Lets go of the engine, which ends if nobody else holds it; waits for its threads then. Idempotent."""

def compile(
    header_json: str,
    stage_hlo: Sequence[bytes],
    path: str,
    weight_threshold: int = 1024,
    progress: Callable[[str, float], object] | None = None,
    initial_values: Sequence[bytes] = (),
) -> None:
    """Compiles HLO modules ahead of time and writes an executable file.

    Args:
      header_json: An ExecutableHeader (cc/executable/executable.proto) in proto3 JSON, without what the compiler fills
        in (cc/compiler/compiler.h).
      stage_hlo: A serialised xla.HloModuleProto for each stage of the header.
      path: Where the file goes; it appears there whole or not at all.
      weight_threshold: Constants of at least so many bytes leave the code and become weights.
      progress: Called in this thread with what is being done and the share done so far, from 0 to 1. An exception
        that it raises is raised here, after compiling.
      initial_values: Bytes of the constants that carried values start as (CompileOptions::initial_values).

    Raises:
      StatusError: The header or the HLO is not valid, an operation cannot be compiled, or a stage needs more memory
        than its IPU has.
    """

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
    """What runs in this process, in JSON: {"build": Build, "target": Target} of cc/executable/executable.proto."""

def keep_engine(name: str) -> EngineHandle:
    """Keeps the running engine of that name. Raises StatusError when none runs."""

def stop_engine(name: str) -> None:
    """Stops the engine of that name, whoever holds it; what waits fails with Cancelled. Raises StatusError when none runs."""

def engine_names() -> list[str]:
    """Names of the running engines, sorted."""

def engine_statistics(name: str) -> dict[str, Any]:
    """Counters of a running engine as in cc/engine/statistics.h. A histogram is a dict with count, sum, mean, p50, p90,
    p99 and max; times are in microseconds. Raises StatusError when none runs."""
