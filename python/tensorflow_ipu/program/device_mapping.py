"""On which IPU each stage of a pipeline is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorflow_ipu.config import export_target
from tensorflow_ipu.integers import as_integer, is_integer


def is_device_mapping(value: Any) -> bool:
    """Whether it is a list (a tuple, an array) of whole numbers."""
    return isinstance(value, (list, tuple, np.ndarray)) and all(map(is_integer, value))


def as_device_mapping(device_mapping: Any, stages: int) -> list[int]:
    """The IPU of each stage; None stands for stage k on IPU k.

    Whether there are such IPUs is only known when a program is compiled: check_configured().

    Raises:
      TypeError: it is not a list of whole numbers.
      ValueError: it has not one entry a stage.
    """
    if device_mapping is None:
        return list(range(stages))
    if not is_device_mapping(device_mapping):
        raise TypeError(f"`device_mapping` must be a list or tuple of ints, not {device_mapping!r}.")
    if len(device_mapping) != stages:
        raise ValueError(
            f"Each stage must be mapped to an IPU: `device_mapping` has {len(device_mapping)} entries, but"
            f" there are {stages} stages."
        )
    mapping = [as_integer("device_mapping", ipu) for ipu in device_mapping]
    below = sorted({ipu for ipu in mapping if ipu < 0})
    if below:
        raise ValueError(f"The `device_mapping` {mapping} names the IPUs {below}, but IPUs count from 0.")
    return mapping


def check_configured(device_mapping: Sequence[int]) -> None:
    """Raises ValueError when it names an IPU that the configuration in force does not have."""
    configured = export_target().num_ipus
    outside = sorted({ipu for ipu in device_mapping if ipu >= configured})
    if outside:
        raise ValueError(
            f"The `device_mapping` {list(device_mapping)} names the IPUs {outside}, but the number of"
            f" configured IPUs is {configured} (from 0). Set `IPUConfig.auto_select_ipus` to"
            f" {max(device_mapping) + 1} and call `configure_ipu_system()`, or map several stages to one IPU."
        )
