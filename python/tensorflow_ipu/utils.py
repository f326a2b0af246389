"""Functions that inference scripts use beside the rest."""

from __future__ import annotations

import re
from typing import Any

import tensorflow as tf

from tensorflow_ipu import config as _config
from tensorflow_ipu.config import (
    DeviceConnectionType,
    ExecutionProfileType,
    IPUConfig,
    MergeRemoteBuffersBehaviour,
    SchedulingAlgorithm,
    SelectionOrder,
    StochasticRoundingBehaviour,
    configure_ipu_system,
    get_ipu_config,
    reset_ipu_configuration,
    running_on_ipu_model,
)
from tensorflow_ipu.integers import as_integer
from tensorflow_ipu.not_provided import stand_in

__all__ = [
    "DeviceConnectionType",
    "ExecutionProfileType",
    "IPUConfig",
    "MergeRemoteBuffersBehaviour",
    "SchedulingAlgorithm",
    "SelectionOrder",
    "StochasticRoundingBehaviour",
    "configure_ipu_system",
    "get_ipu_config",
    "get_num_of_ipus_in_device",
    "move_variable_initialization_to_cpu",
    "reset_ipu_configuration",
    "reset_ipu_seed",
    "running_on_ipu_model",
]


def get_num_of_ipus_in_device(ipu_device: str, device: str = "cpu") -> int:
    """How many IPUs a TensorFlow device has.

    Args:
      ipu_device: "/device:IPU:0".
      device: the host's device beside it; accepted.

    Raises:
      ValueError: there is no such device in the configuration in force.
    """
    del device
    match = re.fullmatch(r".*IPU:(\d+)", ipu_device, re.IGNORECASE)
    sizes = _config.device_sizes()
    if match is None or int(match.group(1)) >= len(sizes):
        raise ValueError(
            f"There is no device '{ipu_device}': {len(sizes)} are configured, from /device:IPU:0 on."
        )
    return sizes[int(match.group(1))]


def move_variable_initialization_to_cpu(graph: Any = None) -> None:
    """Accepted: variables are initialised on the host anyhow."""
    del graph


def reset_ipu_seed(seed: int, device: str = "/device:IPU:0", cpu_device: str = "cpu") -> None:
    """Sets the seed of random numbers.

    Raises:
      TypeError: the seed is not an int.
    """
    del device, cpu_device
    tf.random.set_seed(as_integer("seed", seed))


def __getattr__(name: str) -> Any:
    return stand_in("utils", name)
