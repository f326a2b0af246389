"""The configuration that is in force in this process, if any: an `IPUConfig`."""

from __future__ import annotations

import copy
import threading

from tensorflow_ipu.config.consistency import check
from tensorflow_ipu.config.flags import poplar_flags, say_once
from tensorflow_ipu.config.options import Section

_in_force: Section | None = None
_lock = threading.Lock()


def put(config: Section, device: str = "cpu", reset_configuration: bool = True) -> None:
    """See system.configure_ipu_system()."""
    global _in_force
    del device
    check(config)
    poplar_flags()
    for name, section, option in config.walk():
        if not option.emulated and getattr(section, option.name) != option.default:
            say_once(f"IPUConfig: {name} has no effect on the emulator.")
    with _lock:
        if _in_force is not None and _in_force != config and not reset_configuration:
            raise RuntimeError(
                "Another IPU configuration is in force; pass reset_configuration=True or call"
                " reset_ipu_configuration() first."
            )
        _in_force = copy.deepcopy(config)


def current() -> Section | None:
    """A copy of the configuration in force."""
    with _lock:
        return copy.deepcopy(_in_force)


def reset() -> None:
    """Takes the configuration out of force."""
    global _in_force
    with _lock:
        _in_force = None
