"""Whether the options of an `IPUConfig` fit together, and what devices they ask for."""

from __future__ import annotations

from tensorflow_ipu.config.choices import DeviceConnectionType
from tensorflow_ipu.config.options import Section

_KIB = 1024
# Tiles of an IPU and bytes of a tile.
VERSIONS = {
    "ipu1": (1216, 256 * _KIB),
    "ipu2": (1472, 624 * _KIB),
    "ipu21": (1472, 624 * _KIB),
}


def _as_list(value: int | list[int] | tuple[int, ...]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


def device_sizes(config: Section) -> list[int]:
    """IPUs of each device that an `IPUConfig` asks for; none when it asks for no device."""
    listing = [1] * 16 + [2] * 8 + [4] * 4 + [8] * 2 + [16]
    return _as_list(config.auto_select_ipus) or [listing[index] for index in _as_list(config.select_ipus)]


def check(config: Section) -> None:
    """Raises ValueError when options of an `IPUConfig` contradict each other or name what does not exist."""
    counts, indices = _as_list(config.auto_select_ipus), _as_list(config.select_ipus)
    if counts and indices:
        raise ValueError("Only one of `auto_select_ipus` and `select_ipus` can be set.")
    if any(count < 1 for count in counts):
        raise ValueError(f"auto_select_ipus: a device has at least one IPU, but {counts} was given.")
    if len(set(indices)) != len(indices):
        raise ValueError(f"All indices in `select_ipus` must be unique, but {indices} was given.")
    if any(not 0 <= index <= 30 for index in indices):
        raise ValueError(f"select_ipus: the emulated system lists devices 0 to 30, but {indices} was given.")

    connection = config.device_connection
    offline = connection.type in (DeviceConnectionType.PRE_COMPILE, DeviceConnectionType.NEVER)
    if offline and not connection.version:
        raise ValueError(
            "device_connection.version must be set when device_connection.type is"
            f" DeviceConnectionType.{connection.type.name}: one of {', '.join(VERSIONS)}."
        )
    for name, version, empty in (
        ("device_connection.version", connection.version, True),
        ("ipu_model.version", config.ipu_model.version, False),
    ):
        if version not in VERSIONS and not (empty and version == ""):
            raise ValueError(f"{name} must be one of {', '.join(VERSIONS)}, but '{version}' was given.")
    if config.ipu_model.tiles_per_ipu < 0:
        raise ValueError(f"ipu_model.tiles_per_ipu must not be negative: {config.ipu_model.tiles_per_ipu}.")

    io_tiles = config.io_tiles
    if io_tiles.num_io_tiles < 0:
        raise ValueError(f"io_tiles.num_io_tiles must not be negative: {io_tiles.num_io_tiles}.")
    if io_tiles.place_ops_on_io_tiles and io_tiles.num_io_tiles == 0:
        raise ValueError("Cannot place ops on I/O tiles when io_tiles.num_io_tiles == 0.")
    if not 0 < io_tiles.available_memory_proportion <= 1:
        raise ValueError(
            "io_tiles.available_memory_proportion is a share above 0 and up to 1, but"
            f" {io_tiles.available_memory_proportion} was given."
        )
    group = config.norms.experimental.distributed_batch_norm_replica_group_size
    if group < 1:
        raise ValueError(
            f"norms.experimental.distributed_batch_norm_replica_group_size must be at least 1, not {group}."
        )
    distribution = config.experimental.multi_replica_distribution
    if distribution.process_count and not 0 <= distribution.process_index < distribution.process_count:
        raise ValueError(
            "experimental.multi_replica_distribution.process_index must be in the range [0,"
            " process_count), but"
            f" {distribution.process_index} of {distribution.process_count} was given."
        )
