"""The values of options that are one of several names."""

from __future__ import annotations

import enum


class SelectionOrder(enum.Enum):
    """The order in which a multi-IPU device takes its IPUs. Emulated IPUs are all alike."""

    AUTO = 0
    ZIGZAG = 1
    SNAKE = 2
    HOOF = 3


class ExecutionProfileType(enum.Enum):
    """What an execution profile holds. The emulator writes none."""

    NO_PROFILE = 0
    DEVICE_PROFILE = 1
    IPU_PROFILE = 2
    TILE_PROFILE = 3


class DeviceConnectionType(enum.Enum):
    """When a process attaches to its IPUs.

    An emulated device is made when a program is loaded, whatever is chosen here. `PRE_COMPILE` and `NEVER`
    compile
    for a device that is elsewhere, so its version has to be named.
    """

    ALWAYS = 0
    ON_DEMAND = 1
    PRE_COMPILE = 2
    NEVER = 3


class MergeRemoteBuffersBehaviour(enum.Enum):
    """Whether compatible remote buffers become one."""

    NO_MERGING = 0
    MERGE = 1
    IF_BENEFICIAL = 2


class SchedulingAlgorithm(enum.Enum):
    """How operations are put in order."""

    CHOOSE_BEST = 0
    CLUSTERING = 1
    POST_ORDER = 2
    LOOK_AHEAD = 3
    SHORTEST_PATH = 4


class StochasticRoundingBehaviour(enum.Enum):
    """Where stochastic rounding is applied."""

    OFF = 0
    ON = 1
    REPLICA_IDENTICAL_ONLY = 2

    @staticmethod
    def from_bool(value: bool) -> StochasticRoundingBehaviour:
        """`ON` for True, `OFF` for False."""
        return StochasticRoundingBehaviour.ON if value else StochasticRoundingBehaviour.OFF
