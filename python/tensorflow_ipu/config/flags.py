"""TF_POPLAR_FLAGS."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import threading
from typing import Any

_log = logging.getLogger("tensorflow_ipu")


@dataclasses.dataclass(frozen=True)
class PoplarFlags:
    """What of the environment variable TF_POPLAR_FLAGS has an effect here."""

    disable_poplar_version_check: bool = False
    use_ipu_model: bool = False
    ipu_model_tiles: int = 0
    # None: a progress bar when the terminal can show one.
    show_progress_bar: bool | None = None


# Flags that mean something on IPU hardware, and nothing to the emulator.
_IGNORED_FLAGS = frozenset(
    [
        "allow_nans",
        "dump_schedule_as_dot",
        "dump_text_reports_to_stdio",
        "executable_cache_path",
        "fallback_scheduler",
        "log_cycle_count",
        "max_compilation_threads",
        "max_infeed_threads",
        "null_data_feed",
        "on_demand_device_poll_time",
        "on_demand_device_timeout",
        "save_interval_report",
        "save_vertex_graph",
        "sync_replica_start",
        "synthetic_data_categories",
        "synthetic_data_initializer",
        "tensor_map_file_path",
        "use_synthetic_data",
        "while_loop_brute_force_max_trip_count",
    ]
)

_said: set[str] = set()
_said_lock = threading.Lock()


def say_once(message: str) -> None:
    with _said_lock:
        if message in _said:
            return
        _said.add(message)
    _log.warning(message)


def poplar_flags() -> PoplarFlags:
    """TF_POPLAR_FLAGS as it is now: flags separated by blanks, `--name` or `--name=value`.

    `--disable_poplar_version_check` lets executables of another build of this package start;
    `--use_ipu_model` is always on here; `--ipu_model_tiles=N` sets the tiles of an emulated IPU unless the
    `IPUConfig` does; `--show_progress_bar=true|false|auto` rules the progress bars of exports.
    `--executable_cache_path` and the other flags of IPU hardware are accepted. Whatever has no effect is
    logged once.
    """
    found: dict[str, Any] = {}
    for word in os.environ.get("TF_POPLAR_FLAGS", "").split():
        match = re.fullmatch(r"--?([A-Za-z0-9_-]+)(?:=(.*))?", word)
        name = match.group(1).replace("-", "_") if match else word
        value = match.group(2) if match else None
        if name in ("disable_poplar_version_check", "use_ipu_model"):
            found[name] = value is None or value.lower() in ("", "1", "true")
        elif name == "ipu_model_tiles" and value is not None and value.isdigit():
            found[name] = int(value)
        elif name == "show_progress_bar":
            found[name] = {"true": True, "1": True, "false": False, "0": False}.get((value or "true").lower())
        elif name in _IGNORED_FLAGS:
            say_once(f"TF_POPLAR_FLAGS: --{name} has no effect on the emulator.")
        else:
            say_once(f"TF_POPLAR_FLAGS: '{word}' is not known and is ignored.")
    return PoplarFlags(**found)
