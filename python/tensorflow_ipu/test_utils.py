"""What test programs for IPUs use to say how many they need."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tensorflow_ipu.config import DeviceConnectionType, IPUConfig
from tensorflow_ipu.integers import as_integer

__all__ = [
    "add_hw_ci_connection_options",
    "get_ci_num_ipus",
    "has_ci_ipus",
    "skip_on_hw",
    "test_may_use_ipus_or_model",
    "test_uses_ipus",
]

_EMULATED_IPUS = 16


def get_ci_num_ipus() -> int:
    """How many IPUs there are: those that are emulated."""
    return _EMULATED_IPUS


def has_ci_ipus() -> bool:
    """Whether there are any."""
    return True


def add_hw_ci_connection_options(opts: IPUConfig) -> None:
    """Sets when to attach to IPUs that others use as well."""
    opts.device_connection.enable_remote_buffers = True
    opts.device_connection.type = DeviceConnectionType.ON_DEMAND


def test_uses_ipus(
    num_ipus: int, allow_ipu_model: bool = False, func: Callable[..., Any] | None = None
) -> Any:
    """A decorator of test methods that are skipped where there are fewer IPUs."""
    del allow_ipu_model
    needed = as_integer("num_ipus", num_ipus)

    def decorator(test: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(test)
        def decorated(self: Any, *args: Any, **kwargs: Any) -> Any:
            if needed > _EMULATED_IPUS:
                self.skipTest(f"Requested {needed} IPUs, but only {_EMULATED_IPUS} are available.")
            return test(self, *args, **kwargs)

        return decorated

    return decorator if func is None else decorator(func)


def test_may_use_ipus_or_model(num_ipus: int, func: Callable[..., Any] | None = None) -> Any:
    """See test_uses_ipus()."""
    return test_uses_ipus(num_ipus, True, func)


def skip_on_hw(func: Callable[..., Any]) -> Callable[..., Any]:
    """The test as it is: nothing here runs on hardware."""
    return func
