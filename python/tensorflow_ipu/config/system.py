"""The system that programs are compiled for, as the configuration in force makes it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from tensorflow_ipu.config import in_force
from tensorflow_ipu.config.consistency import VERSIONS, check
from tensorflow_ipu.config.consistency import device_sizes as sizes_of
from tensorflow_ipu.config.flags import poplar_flags
from tensorflow_ipu.config.ipu_config import IPUConfig, readable


@dataclasses.dataclass(frozen=True)
class ExportTarget:
    """The device that programs are compiled for, as the executable file names it."""

    num_ipus: int
    architecture: str  # "ipu1", "ipu2", "ipu21"
    tiles_per_ipu: int
    memory_per_tile: int  # bytes
    remote_buffers: bool
    # Which floating-point exceptions end a run.
    inv: bool
    div0: bool
    oflo: bool
    # Feeds go through I/O tiles: batches that may be held back in a program that is not a pipeline.
    io_tiles_hold: int
    # The options that differ from their defaults, as text: for people who inspect an executable.
    options: dict[str, str]

    @property
    def memory_per_ipu(self) -> int:
        """Bytes."""
        return self.tiles_per_ipu * self.memory_per_tile


def export_target() -> ExportTarget:
    """What the configuration in force, or the default one, compiles for: its first device.

    Raises:
      ValueError: the configuration contradicts itself.
    """
    config = in_force.current() or IPUConfig()
    check(config)
    flags = poplar_flags()
    version = config.device_connection.version or config.ipu_model.version
    tiles, memory = VERSIONS[version]
    floating_point = config.floating_point_behaviour
    io_tiles = config.io_tiles
    return ExportTarget(
        num_ipus=(sizes_of(config) or [1])[0],
        architecture=version,
        tiles_per_ipu=config.ipu_model.tiles_per_ipu or flags.ipu_model_tiles or tiles,
        memory_per_tile=memory,
        remote_buffers=config.device_connection.enable_remote_buffers,
        inv=floating_point.inv or floating_point.set_all,
        div0=floating_point.div0 or floating_point.set_all,
        oflo=floating_point.oflo or floating_point.set_all,
        io_tiles_hold=2 if io_tiles.num_io_tiles > 0 and io_tiles.place_ops_on_io_tiles else 0,
        options={
            name: readable(getattr(section, option.name))
            for name, section, option in config.walk()
            if getattr(section, option.name) != option.default
        },
    )


def configure_ipu_system(config: IPUConfig, device: str = "cpu", reset_configuration: bool = True) -> None:
    """Puts a copy of `config` in force for all later exports and compilations of the process.

    Executables that exist and engines that run keep what they were compiled with.

    Args:
      config: the configuration; later changes of it count only when it is put in force again.
      device: the host's TensorFlow device beside the IPUs; there is one host.
      reset_configuration: whether a configuration that is in force may be replaced.

    Raises:
      TypeError: `config` is no IPUConfig.
      ValueError: options contradict each other or name what does not exist.
      RuntimeError: another configuration is in force and `reset_configuration` is False.
    """
    if not isinstance(config, IPUConfig):
        raise TypeError(f"`config` must be an IPUConfig, but a {type(config).__name__} was given.")
    in_force.put(config, device, reset_configuration)


def reset_ipu_configuration() -> None:
    """Takes the configuration out of force: the default one, with one IPU, applies again."""
    in_force.reset()


def get_ipu_config(session: Any = None) -> list[IPUConfig]:
    """A copy of the configuration in force, once for each device it has.

    Raises:
      RuntimeError: none is in force.
    """
    del session
    config = in_force.current()
    if not isinstance(config, IPUConfig):
        raise RuntimeError("No IPU devices configured. Call IPUConfig.configure_ipu_system() first.")
    return [copy.deepcopy(config) for _ in sizes_of(config) or [1]]


def device_sizes() -> list[int]:
    """IPUs of each device of the configuration in force; one device of one IPU when there is none."""
    config = in_force.current()
    return (sizes_of(config) if config is not None else []) or [1]


def running_on_ipu_model() -> bool:
    """Whether programs run on the emulator: always."""
    return True
