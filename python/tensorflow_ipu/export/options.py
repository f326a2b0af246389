"""What an export is asked for besides the functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tensorflow_ipu.integers import as_integer
from tensorflow_ipu.program import DEFAULT_TARGET_CPU, DEFAULT_TIMEOUT_US
from tensorflow_ipu.progress import ProgressCallback


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
    target, device_plugin: see tensorflow_ipu.config.targets.resolve_target().
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
        if smaller is not None and not hasattr(smaller, "__iter__"):
            raise TypeError(f"`smaller_batches` must be a list of numbers of rows, not {smaller!r}.")
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
