"""The tree of options."""

from __future__ import annotations

import copy
import enum
import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

from tensorflow_ipu.config import in_force
from tensorflow_ipu.config.choices import (
    DeviceConnectionType,
    MergeRemoteBuffersBehaviour,
    SchedulingAlgorithm,
    SelectionOrder,
    StochasticRoundingBehaviour,
)
from tensorflow_ipu.config.options import INT_OR_INTS, Kind, Option, Section, UnknownOptionError, is_bool
from tensorflow_ipu.integers import is_integer

_ROUNDING = Kind(
    "a StochasticRoundingBehaviour or a bool",
    lambda value: isinstance(value, StochasticRoundingBehaviour) or is_bool(value),
    lambda value: bool(value) if is_bool(value) else value,
)


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
        kind=INT_OR_INTS,
        emulated=True,
    )
    select_ipus: Option[int | list[int] | tuple[int, ...]] = Option(
        [],
        "Which entry of the system's listing each device is. The emulated system lists 16 IPUs as 0 to"
        " 15, then pairs"
        " (16 to 23), fours (24 to 27), eights (28, 29) and all sixteen (30).",
        kind=INT_OR_INTS,
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
        in_force.put(self, device)

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


def readable(value: Any) -> str:
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
    if not isinstance(option.default, enum.Enum) or isinstance(value, enum.Enum) or is_bool(value):
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
