"""The configuration of the IPU system: `IPUConfig`, what of it is in force, and the target it gives to an
export.

A script makes an `IPUConfig`, sets attributes, and calls `configure_ipu_system()`; from then on every
export and compilation of the process is for that system. Attributes are typed and spelled-checked: a wrong
type raises TypeError, an unknown name raises `UnknownOptionError` with a suggestion. What cannot change
anything on the emulator is accepted, and the log says so once.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import enum
import json
import logging
import operator
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar, overload

import numpy as np

from tensorflow_ipu.integers import is_integer

__all__ = [
    "DeviceConnectionType",
    "ExecutionProfileType",
    "ExportTarget",
    "IPUConfig",
    "MergeRemoteBuffersBehaviour",
    "SchedulingAlgorithm",
    "SelectionOrder",
    "StochasticRoundingBehaviour",
    "UnknownOptionError",
    "configure_ipu_system",
    "export_target",
    "get_ipu_config",
    "poplar_flags",
    "reset_ipu_configuration",
    "running_on_ipu_model",
]

_log = logging.getLogger("tensorflow_ipu")

T = TypeVar("T")


class UnknownOptionError(AttributeError, ValueError):
    """There is no such option; the message names the one that is spelled most like it."""


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


# --------------------------------------------------------------------------------------------------
# Typed attributes
# --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What values an option takes."""

    description: str
    accepts: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_real(value: Any) -> bool:
    return is_integer(value) or isinstance(value, (float, np.floating))


def _is_int_or_ints(value: Any) -> bool:
    return is_integer(value) or (
        isinstance(value, (list, tuple, np.ndarray)) and all(is_integer(item) for item in value)
    )


def _int_or_ints(value: Any) -> Any:
    if is_integer(value):
        return operator.index(value)
    items = [operator.index(item) for item in value]
    return tuple(items) if isinstance(value, tuple) else items


def _is_options(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and (isinstance(item, str) or _is_bool(item) or _is_real(item))
        for key, item in value.items()
    )


_INT_OR_INTS = _Kind("an int, or a list or tuple of ints", _is_int_or_ints, _int_or_ints)
_ROUNDING = _Kind(
    "a StochasticRoundingBehaviour or a bool",
    lambda value: isinstance(value, StochasticRoundingBehaviour) or _is_bool(value),
    lambda value: bool(value) if _is_bool(value) else value,
)


def _kind_of(default: Any) -> _Kind:
    if isinstance(default, bool):
        return _Kind("a bool", _is_bool, bool)
    if isinstance(default, int):
        return _Kind("an int", is_integer, operator.index)
    if isinstance(default, float):
        return _Kind("a float", _is_real, float)
    if isinstance(default, enum.Enum):
        of = type(default)
        return _Kind(f"a {of.__name__}", lambda value: isinstance(value, of))
    if isinstance(default, dict):
        return _Kind("a dict of option names to values", _is_options)
    of_default = type(default)
    return _Kind(f"a {of_default.__name__}", lambda value: isinstance(value, of_default))


class Option(Generic[T]):
    """One typed attribute of a section of the configuration."""

    def __init__(self, default: T, doc: str, *, kind: _Kind | None = None, emulated: bool = False) -> None:
        """`emulated`: the emulator, or the file an export writes, depends on the option."""
        self.default = default
        self.kind = kind or _kind_of(default)
        self.emulated = emulated
        self.name = ""
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, section: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, section: Section, owner: type) -> T: ...
    def __get__(self, section: Section | None, owner: type) -> Option[T] | T:
        if section is None:
            return self
        return section.__dict__[self.name]

    def __set__(self, section: Section, value: T) -> None:
        if not self.kind.accepts(value):
            raise TypeError(
                f"{section.full_name(self.name)} must be {self.kind.description}, but {value!r}"
                f" ({type(value).__name__}) was given."
            )
        section.__dict__[self.name] = self.kind.convert(value)


class Section:
    """A group of options, some of which may be groups themselves."""

    _sections: ClassVar[dict[str, type[Section]]] = {}

    def __init_subclass__(cls, **sections: type[Section]) -> None:
        super().__init_subclass__()
        cls._sections = sections

    def __init__(self, path: str = "") -> None:
        self.__dict__["_path"] = path
        for name, option in self._options().items():
            self.__dict__[name] = copy.deepcopy(option.default)
        for name, section in self._sections.items():
            self.__dict__[name] = section(self.full_name(name))

    @classmethod
    def _options(cls) -> dict[str, Option[Any]]:
        return {name: value for name, value in vars(cls).items() if isinstance(value, Option)}

    def full_name(self, name: str) -> str:
        """The option's name from the root of the configuration: "floating_point_behaviour.inv"."""
        return f"{self._path}.{name}" if self._path else name

    def walk(self) -> Iterator[tuple[str, Section, Option[Any]]]:
        """All options from here down: full name, section and option."""
        for name, option in self._options().items():
            yield self.full_name(name), self, option
        for name in self._sections:
            yield from self.__dict__[name].walk()

    def _unknown(self, name: str) -> UnknownOptionError:
        known = [*self._options(), *self._sections]
        close = difflib.get_close_matches(name, known, n=1)
        where = f" of {self._path}" if self._path else ""
        hint = (
            f"Did you mean '{self.full_name(close[0])}'?"
            if close
            else f"There are: {', '.join(sorted(known))}."
        )
        return UnknownOptionError(f"'{name}' is not a valid attribute of this config{where}. {hint}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._unknown(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._sections:
            raise AttributeError(
                f"{self.full_name(name)} is a category and cannot be assigned to; set its attributes: "
                f"{', '.join([*self._sections[name]._options(), *self._sections[name]._sections])}."
            )
        if name not in self._options():
            raise self._unknown(name)
        super().__setattr__(name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Section:
        clone = type(self).__new__(type(self))
        clone.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
        return clone

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        changed = [
            f"{name}={getattr(section, option.name)!r}"
            for name, section, option in self.walk()
            if getattr(section, option.name) != option.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


# --------------------------------------------------------------------------------------------------
# The tree
# --------------------------------------------------------------------------------------------------


class _DeviceConnection(Section):
    type = Option(DeviceConnectionType.ALWAYS, "When to attach to the device.", emulated=True)
    version = Option(
        "",
        "The IPU to compile for: 'ipu1', 'ipu2', 'ipu21', or '' for the version of `ipu_model`. Required"
        " when `type`"
        " is PRE_COMPILE or NEVER.",
        emulated=True,
    )
    enable_remote_buffers = Option(
        False, "Whether the system that will run the executable has remote buffers.", emulated=True
    )


class _IoTiles(Section):
    num_io_tiles = Option(0, "Tiles of each IPU that are kept for input and output.", emulated=True)
    place_ops_on_io_tiles = Option(
        False,
        "Whether feeds go through the I/O tiles. The device then works on several batches at a time, and"
        " holds up to"
        " two back until more arrive or the timeout passes.",
        emulated=True,
    )
    available_memory_proportion = Option(0.9, "Share of the I/O tiles' memory that may hold data.")


class _IpuModel(Section):
    compile_ipu_code = Option(True, "Whether code for IPU tiles is generated for the model.")
    tiles_per_ipu = Option(0, "Tiles of an emulated IPU; 0 for as many as its version has.", emulated=True)
    version = Option("ipu2", "Version of the emulated IPU: 'ipu1', 'ipu2' or 'ipu21'.", emulated=True)


class _FloatingPointBehaviour(Section):
    inv = Option(False, "Whether an invalid operation (0/0) ends the run with an exception.", emulated=True)
    div0 = Option(False, "Whether a division by zero ends the run with an exception.", emulated=True)
    oflo = Option(False, "Whether an overflow ends the run with an exception.", emulated=True)
    esr: Option[StochasticRoundingBehaviour | bool] = Option(
        StochasticRoundingBehaviour.OFF, "Stochastic rounding.", kind=_ROUNDING
    )
    nanoo = Option(False, "Whether float16 arithmetic overflows to NaN instead of the largest number.")
    set_all = Option(False, "Whether all of the above are on, whatever they are set to.", emulated=True)


class _PoplarOptions(Section):
    poplar_options: Option[dict[str, Any]] = Option({}, "Options of the library's planner, by name.")


class _Matmuls(Section):
    clear_pass_type = Option(False, "Whether the library is not told what pass a product belongs to.")
    poplar_options: Option[dict[str, Any]] = Option({}, "Options of the library's planner, by name.")


class _NormsExperimental(Section):
    distributed_batch_norm_replica_group_size = Option(
        1, "Replicas over which the statistics of a batch normalisation are gathered when training."
    )


class _Norms(Section, experimental=_NormsExperimental):
    use_stable_statistics = Option(False, "Whether the mean is subtracted before the variance is computed.")
    experimental: _NormsExperimental


class _Math(Section):
    fast = Option(False, "Whether arithmetic may be rearranged without regard to rounding.")
    dot_strength = Option(True, "Whether products without a free dimension on a side are multiplied.")


class _Optimizations(Section, math=_Math):
    prefetch_data_streams = Option(True, "Whether the host fetches data ahead of the device's asking.")
    combine_embedding_lookups = Option(False, "Whether look-ups in one table are fused.")
    combine_matmuls = Option(False, "Whether products that share an operand are fused.")
    enable_graph_outlining = Option(True, "Whether like operations share code.")
    enable_dynamic_slice_replacement = Option(True, "Whether dynamic slices may become faster operations.")
    merge_infeed_io_copies = Option(False, "Whether copies to the device are merged.")
    maximum_cross_replica_sum_buffer_size = Option(0, "Bytes that may wait for a sum over replicas.")
    maximum_reduce_scatter_buffer_size = Option(0, "Bytes that may wait for a reduce-scatter.")
    maximum_inter_ipu_copies_buffer_size = Option(0, "Bytes that may wait for a copy between IPUs.")
    maximum_send_recv_cluster_size = Option(0, "Bytes that may wait for a transfer to or from the host.")
    maximum_reduce_many_buffer_size = Option(0, "Bytes that may wait for a fused reduction.")
    maximum_all_gather_buffer_size = Option(0, "Bytes that may wait for an all-gather.")
    minimum_remote_tensor_size = Option(128, "Bytes below which a tensor is never kept in remote memory.")
    merge_remote_buffers = Option(
        MergeRemoteBuffersBehaviour.IF_BENEFICIAL, "Whether compatible remote buffers become one."
    )
    enable_gather_simplifier = Option(True, "Whether look-ups are simplified.")
    triangular_solve_expander_block_size = Option(0, "Block size of the triangular solver; 0: the default.")
    cholesky_block_size = Option(0, "Block size of the Cholesky factorisation; 0 for the default.")
    enable_fast_math = Option(False, "The older name of `optimizations.math.fast`.")
    math: _Math


class _Scheduling(Section):
    algorithm = Option(SchedulingAlgorithm.CHOOSE_BEST, "How operations are put in order.")
    maximum_scheduler_lookahead_depth = Option(5, "How far LOOK_AHEAD looks.")
    maximum_scheduler_search_space_size = Option(64, "How much LOOK_AHEAD may compare.")


class _MultiReplicaDistribution(Section):
    process_index = Option(0, "Which of the processes this one is.")
    process_count = Option(0, "Processes that run one program together; 0 when there is just this one.")


class _Experimental(Section, multi_replica_distribution=_MultiReplicaDistribution):
    always_rearrange_copies_on_the_host = Option(False, "Whether the host changes the layout of feeds.")
    enable_remote_buffer_embedding = Option(False, "Whether host embeddings use remote buffers.")
    enable_prng_stability = Option(False, "Whether random numbers of replicas are kept in step.")
    multi_replica_distribution: _MultiReplicaDistribution


class _Restore:
    """`from_dict` and `from_json`: of the class they make a configuration, of an instance they set it."""

    def __init__(self, parse: Callable[[Any], Mapping[str, Any]], doc: str) -> None:
        self._parse = parse
        self.__doc__ = doc

    def __get__(self, config: IPUConfig | None, owner: type[IPUConfig]) -> Callable[[Any], IPUConfig]:
        def restore(source: Any) -> IPUConfig:
            target = owner() if config is None else config
            target._restore(self._parse(source))
            return target

        restore.__doc__ = self.__doc__
        return restore


class IPUConfig(
    Section,
    device_connection=_DeviceConnection,
    io_tiles=_IoTiles,
    ipu_model=_IpuModel,
    floating_point_behaviour=_FloatingPointBehaviour,
    matmuls=_Matmuls,
    convolutions=_PoplarOptions,
    slices=_PoplarOptions,
    pooling=_PoplarOptions,
    norms=_Norms,
    optimizations=_Optimizations,
    scheduling=_Scheduling,
    experimental=_Experimental,
):
    """All options of the IPU system, in sections. `IPUConfig.describe()` lists them with types and
    defaults."""

    auto_select_ipus: Option[int | list[int] | tuple[int, ...]] = Option(
        [],
        "How many IPUs each device has: 2 for one device of two IPUs, [1, 2] for two devices. Programs"
        " are compiled"
        " for the first.",
        kind=_INT_OR_INTS,
        emulated=True,
    )
    select_ipus: Option[int | list[int] | tuple[int, ...]] = Option(
        [],
        "Which entry of the system's listing each device is. The emulated system lists 16 IPUs as 0 to"
        " 15, then pairs"
        " (16 to 23), fours (24 to 27), eights (28, 29) and all sixteen (30).",
        kind=_INT_OR_INTS,
        emulated=True,
    )
    selection_order = Option(SelectionOrder.AUTO, "In which order a device takes its IPUs.")
    allow_recompute = Option(False, "Whether activations are computed again when training.")
    serialization_output_folder = Option("", "Where executables are written as they are compiled.")
    compilation_poplar_options: Option[dict[str, Any]] = Option({}, "Options of the device compiler.")
    gcl_poplar_options: Option[dict[str, Any]] = Option({}, "Options of the communication library, by name.")

    device_connection: _DeviceConnection
    io_tiles: _IoTiles
    ipu_model: _IpuModel
    floating_point_behaviour: _FloatingPointBehaviour
    matmuls: _Matmuls
    convolutions: _PoplarOptions
    slices: _PoplarOptions
    pooling: _PoplarOptions
    norms: _Norms
    optimizations: _Optimizations
    scheduling: _Scheduling
    experimental: _Experimental

    def __init__(self) -> None:
        super().__init__()

    @classmethod
    def describe(cls) -> str:
        """A line for each option: name, type, default and meaning."""
        lines = []
        for name, _, option in cls().walk():
            effect = "" if option.emulated else " (no effect on the emulator)"
            lines.append(f"{name}: {option.kind.description}, default {option.default!r}{effect}")
            lines.append(f"    {option.__doc__}")
        return "\n".join(lines)

    def configure_ipu_system(self, device: str = "cpu") -> None:
        """Puts this configuration in force; see `configure_ipu_system()` of the module."""
        configure_ipu_system(self, device)

    def to_dict(self) -> dict[str, Any]:
        """All options by their full names ("device_connection.type"), as plain values: enumerations as ints.

        A section can be looked up as well: `to_dict()["device_connection"]["type"]`.
        """
        return _Written(
            {name: _written(getattr(section, option.name)) for name, section, option in self.walk()}
        )

    def to_json(self) -> str:
        """`to_dict()` as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    from_dict = _Restore(
        lambda source: source,
        "Sets the options that the dictionary has: by full names or nested, enumerations as ints, names or"
        " members. Raises UnknownOptionError, TypeError, ValueError.",
    )
    from_json = _Restore(json.loads, "`from_dict` of what the JSON text holds.")

    def _restore(self, source: Mapping[str, Any]) -> None:
        if not isinstance(source, Mapping):
            raise TypeError(f"A configuration is a dictionary, but a {type(source).__name__} was given.")
        fresh = copy.deepcopy(self)
        _set_all(fresh, source)
        self.__dict__.update(fresh.__dict__)

    def get_attribute_metadata(self, name: str) -> Option[Any]:
        """The option of that full name, with `default`, `kind.description` and documentation.

        Raises:
          UnknownOptionError: there is none.
        """
        *parents, leaf = name.split(".")
        section: Any = self
        for parent in parents:
            section = getattr(section, parent)
        if not isinstance(section, Section) or leaf not in section._options():
            raise section._unknown(leaf) if isinstance(section, Section) else UnknownOptionError(name)
        return section._options()[leaf]


class _Written(dict[str, Any]):
    """Options by their full names; the name of a section gives the options below it."""

    def __missing__(self, section: str) -> dict[str, Any]:
        below = {name.removeprefix(f"{section}."): value for name, value in self.items()}
        below = {name: value for name, value in below.items() if f"{section}.{name}" in self}
        if not below:
            raise KeyError(section)
        return _Written(below)


def _written(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    return dict(value) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else value


def _readable(value: Any) -> str:
    """An option's value as text, for people."""
    return json.dumps(value.name if isinstance(value, enum.Enum) else _written(value))


def _set_all(section: Section, source: Mapping[str, Any]) -> None:
    for name, value in source.items():
        head, _, rest = str(name).partition(".")
        if head in section._sections:
            child = section.__dict__[head]
            if rest:
                _set_all(child, {rest: value})
            elif isinstance(value, Mapping):
                _set_all(child, value)
            else:
                raise TypeError(
                    f"{section.full_name(head)} is a category: expected a dictionary, not {value!r}."
                )
            continue
        option = section._options().get(head)
        if option is None or rest:
            raise section._unknown(str(name))
        setattr(section, head, _parsed(option, value))


def _parsed(option: Option[Any], value: Any) -> Any:
    if not isinstance(option.default, enum.Enum) or isinstance(value, enum.Enum) or _is_bool(value):
        return value
    kind = type(option.default)
    if isinstance(value, str) and value in kind.__members__:
        return kind.__members__[value]
    if is_integer(value) and any(member.value == value for member in kind):
        return kind(operator.index(value))
    if isinstance(value, str) or is_integer(value):
        members = ", ".join(f"{member.name} ({member.value})" for member in kind)
        raise ValueError(f"{option.name} must be one of {members}, but {value!r} was given.")
    return value


# --------------------------------------------------------------------------------------------------
# TF_POPLAR_FLAGS
# --------------------------------------------------------------------------------------------------


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


def _say_once(message: str) -> None:
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
            _say_once(f"TF_POPLAR_FLAGS: --{name} has no effect on the emulator.")
        else:
            _say_once(f"TF_POPLAR_FLAGS: '{word}' is not known and is ignored.")
    return PoplarFlags(**found)


def running_on_ipu_model() -> bool:
    """Whether programs run on the emulator: always."""
    return True


# --------------------------------------------------------------------------------------------------
# What is in force
# --------------------------------------------------------------------------------------------------

_KIB = 1024
# Tiles of an IPU and bytes of a tile.
_VERSIONS = {
    "ipu1": (1216, 256 * _KIB),
    "ipu2": (1472, 624 * _KIB),
    "ipu21": (1472, 624 * _KIB),
}

_in_force: IPUConfig | None = None
_in_force_lock = threading.Lock()


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
    with _in_force_lock:
        config = copy.deepcopy(_in_force) if _in_force is not None else IPUConfig()
    _check(config)
    flags = poplar_flags()
    version = config.device_connection.version or config.ipu_model.version
    tiles, memory = _VERSIONS[version]
    floating_point = config.floating_point_behaviour
    io_tiles = config.io_tiles
    return ExportTarget(
        num_ipus=(_device_sizes(config) or [1])[0],
        architecture=version,
        tiles_per_ipu=config.ipu_model.tiles_per_ipu or flags.ipu_model_tiles or tiles,
        memory_per_tile=memory,
        remote_buffers=config.device_connection.enable_remote_buffers,
        inv=floating_point.inv or floating_point.set_all,
        div0=floating_point.div0 or floating_point.set_all,
        oflo=floating_point.oflo or floating_point.set_all,
        io_tiles_hold=2 if io_tiles.num_io_tiles > 0 and io_tiles.place_ops_on_io_tiles else 0,
        options={
            name: _readable(getattr(section, option.name))
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
    global _in_force
    if not isinstance(config, IPUConfig):
        raise TypeError(f"`config` must be an IPUConfig, but a {type(config).__name__} was given.")
    del device
    _check(config)
    poplar_flags()
    for name, section, option in config.walk():
        if not option.emulated and getattr(section, option.name) != option.default:
            _say_once(f"IPUConfig: {name} has no effect on the emulator.")
    with _in_force_lock:
        if _in_force is not None and _in_force != config and not reset_configuration:
            raise RuntimeError(
                "Another IPU configuration is in force; pass reset_configuration=True or call"
                " reset_ipu_configuration() first."
            )
        _in_force = copy.deepcopy(config)


def reset_ipu_configuration() -> None:
    """Takes the configuration out of force: the default one, with one IPU, applies again."""
    global _in_force
    with _in_force_lock:
        _in_force = None


def get_ipu_config(session: Any = None) -> list[IPUConfig]:
    """A copy of the configuration in force, once for each device it has.

    Raises:
      RuntimeError: none is in force.
    """
    del session
    with _in_force_lock:
        if _in_force is None:
            raise RuntimeError("No IPU devices configured. Call IPUConfig.configure_ipu_system() first.")
        return [copy.deepcopy(_in_force) for _ in _device_sizes(_in_force) or [1]]


def device_sizes() -> list[int]:
    """IPUs of each device of the configuration in force; one device of one IPU when there is none."""
    with _in_force_lock:
        return (_device_sizes(_in_force) if _in_force is not None else []) or [1]


def _as_list(value: int | list[int] | tuple[int, ...]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


def _device_sizes(config: IPUConfig) -> list[int]:
    listing = [1] * 16 + [2] * 8 + [4] * 4 + [8] * 2 + [16]
    return _as_list(config.auto_select_ipus) or [listing[index] for index in _as_list(config.select_ipus)]


def _check(config: IPUConfig) -> None:
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
            f" DeviceConnectionType.{connection.type.name}: one of {', '.join(_VERSIONS)}."
        )
    for name, version, empty in (
        ("device_connection.version", connection.version, True),
        ("ipu_model.version", config.ipu_model.version, False),
    ):
        if version not in _VERSIONS and not (empty and version == ""):
            raise ValueError(f"{name} must be one of {', '.join(_VERSIONS)}, but '{version}' was given.")
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
