"""IPUConfig: typed options, what is in force, and the target of an export."""

import copy
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tensorflow_ipu import config, progress, utils
from tensorflow_ipu.config import DeviceConnectionType, IPUConfig, UnknownOptionError, flags


@pytest.fixture(autouse=True)
def nothing_in_force(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TF_POPLAR_FLAGS", raising=False)
    monkeypatch.setattr(flags, "_said", set())
    config.reset_ipu_configuration()
    yield
    config.reset_ipu_configuration()


def set_option(root: IPUConfig, name: str, value: Any) -> None:
    *parents, leaf = name.split(".")
    section: Any = root
    for parent in parents:
        section = getattr(section, parent)
    setattr(section, leaf, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auto_select_ipus", 2),
        ("auto_select_ipus", [1, 2]),
        ("auto_select_ipus", (4,)),
        ("select_ipus", 3),
        ("selection_order", config.SelectionOrder.SNAKE),
        ("device_connection.type", DeviceConnectionType.ON_DEMAND),
        ("device_connection.version", "ipu21"),
        ("device_connection.enable_remote_buffers", True),
        ("io_tiles.num_io_tiles", 32),
        ("io_tiles.place_ops_on_io_tiles", True),
        ("io_tiles.available_memory_proportion", 0.5),
        ("ipu_model.compile_ipu_code", False),
        ("ipu_model.tiles_per_ipu", 8),
        ("ipu_model.version", "ipu1"),
        ("floating_point_behaviour.inv", True),
        ("floating_point_behaviour.esr", True),
        ("floating_point_behaviour.esr", config.StochasticRoundingBehaviour.ON),
        ("compilation_poplar_options", {"a": "b"}),
        ("matmuls.poplar_options", {"availableMemoryProportion": "0.1"}),
        ("convolutions.poplar_options", {"partialsType": "half"}),
        ("slices.poplar_options", {"a": "b"}),
        ("pooling.poplar_options", {"a": "b"}),
        ("optimizations.math.fast", True),
        ("optimizations.merge_remote_buffers", config.MergeRemoteBuffersBehaviour.MERGE),
        ("scheduling.algorithm", config.SchedulingAlgorithm.POST_ORDER),
        ("norms.experimental.distributed_batch_norm_replica_group_size", 2),
        ("experimental.multi_replica_distribution.process_count", 2),
    ],
)
def test_an_option_is_kept_and_survives_being_written(name: str, value: Any) -> None:
    root = IPUConfig()
    assert root.get_attribute_metadata(name).__doc__
    set_option(root, name, value)
    changed = copy.deepcopy(root)
    assert changed == root != IPUConfig()
    assert name in repr(root)
    for written in (IPUConfig.from_dict(root.to_dict()), IPUConfig.from_json(root.to_json())):
        assert json.loads(written.to_json()) == json.loads(root.to_json())
    other = IPUConfig()
    other.from_dict({name: root.to_dict()[name]})
    assert other.to_json() == root.to_json()
    nested: Any = root.to_dict()[name]
    for part in reversed(name.split(".")):
        nested = {part: nested}
    assert IPUConfig.from_dict(nested).to_json() == root.to_json()


def test_a_configuration_is_written_flat_with_ints() -> None:
    root = IPUConfig()
    root.auto_select_ipus = (1, 2)
    root.device_connection.type = DeviceConnectionType.ON_DEMAND
    written = root.to_dict()
    assert written["auto_select_ipus"] == [1, 2]
    assert written["device_connection.type"] == 1
    assert written["selection_order"] == 0
    assert written["floating_point_behaviour.esr"] == 0
    assert written["optimizations.math.fast"] is False
    assert json.loads(root.to_json()) == json.loads(json.dumps(written)) == dict(written)
    assert written["device_connection"]["type"] == 1
    assert written["optimizations"]["math"]["fast"] is False
    with pytest.raises(KeyError):
        written["device"]


@pytest.mark.parametrize("value", [3, np.int64(3), "NEVER", DeviceConnectionType.NEVER])
def test_enumerations_are_read_as_ints_names_or_members(value: Any) -> None:
    root = IPUConfig.from_dict({"device_connection.type": value})
    assert root.device_connection.type is DeviceConnectionType.NEVER


def test_values_may_be_those_of_numpy() -> None:
    root = IPUConfig()
    root.auto_select_ipus = np.int64(2)  # type: ignore[assignment]
    root.select_ipus = np.array([1, 2])  # type: ignore[assignment]
    root.ipu_model.tiles_per_ipu = np.int32(8)  # type: ignore[assignment]
    root.floating_point_behaviour.inv = np.bool_(True)  # type: ignore[assignment]
    root.io_tiles.available_memory_proportion = np.float32(0.5)  # type: ignore[assignment]
    found = [type(value) for value in (root.auto_select_ipus, root.ipu_model.tiles_per_ipu)]
    assert found == [int, int]
    assert root.select_ipus == [1, 2]
    assert root.floating_point_behaviour.inv is True
    assert json.loads(root.to_json())["io_tiles.available_memory_proportion"] == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auto_select_ipus", "2"),
        ("auto_select_ipus", True),
        ("auto_select_ipus", [1, "2"]),
        ("selection_order", "SNAKE"),
        ("device_connection.type", 1),
        ("device_connection.version", 2),
        ("io_tiles.num_io_tiles", 1.0),
        ("io_tiles.available_memory_proportion", "0.5"),
        ("ipu_model.tiles_per_ipu", True),
        ("floating_point_behaviour.inv", 1),
        ("floating_point_behaviour.esr", "ON"),
        ("matmuls.poplar_options", [("a", "b")]),
        ("matmuls.poplar_options", {1: "b"}),
    ],
)
def test_a_wrong_type_is_refused(name: str, value: Any) -> None:
    root = IPUConfig()
    with pytest.raises(TypeError, match=f"{name} must be"):
        set_option(root, name, value)
    assert root == IPUConfig()


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("auto_select_ipu", "auto_select_ipus"),
        ("io_tiles.num_io_tile", "io_tiles.num_io_tiles"),
        ("floating_point_behavior", "floating_point_behaviour"),
        ("optimizations.math.fst", "optimizations.math.fast"),
    ],
)
def test_an_unknown_option_is_refused_with_a_suggestion(name: str, suggestion: str) -> None:
    root = IPUConfig()
    with pytest.raises(UnknownOptionError, match=f"Did you mean '{suggestion}'"):
        set_option(root, name, 1)
    with pytest.raises(ValueError, match="not a valid attribute"):
        root.from_dict({name: 1})
    assert not hasattr(root, "auto_select_ipu")


def test_a_category_cannot_be_replaced() -> None:
    with pytest.raises(AttributeError, match="is a category"):
        IPUConfig().io_tiles = 3  # type: ignore[assignment]
    with pytest.raises(TypeError, match="is a category"):
        IPUConfig.from_dict({"io_tiles": 3})


def test_a_bad_dictionary_changes_nothing() -> None:
    root = IPUConfig()
    with pytest.raises(TypeError):
        root.from_dict({"auto_select_ipus": 2, "ipu_model": {"tiles_per_ipu": "many"}})
    assert root == IPUConfig()
    with pytest.raises(ValueError, match="must be one of ALWAYS"):
        root.from_dict({"device_connection": {"type": "SOMETIMES"}})
    with pytest.raises(ValueError, match=r"NEVER \(3\), but 4 was given"):
        root.from_dict({"device_connection.type": 4})


def test_options_of_two_configurations_are_apart() -> None:
    first, second = IPUConfig(), IPUConfig()
    first.matmuls.poplar_options["a"] = "b"
    assert second.matmuls.poplar_options == {}


def test_describe_names_every_option() -> None:
    described = IPUConfig.describe()
    for name in IPUConfig().to_dict():
        assert name in described
    assert "floating_point_behaviour.div0: a bool, default False" in described


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auto_select_ipus": 1, "select_ipus": 1}, "Only one of"),
        ({"auto_select_ipus": [0]}, "at least one IPU"),
        ({"select_ipus": [1, 1]}, "must be unique"),
        ({"select_ipus": 31}, "devices 0 to 30"),
        ({"device_connection": {"type": "NEVER"}}, "device_connection.version must be set"),
        ({"device_connection": {"type": "PRE_COMPILE"}}, "device_connection.version must be set"),
        ({"device_connection": {"version": "ipu3"}}, "must be one of ipu1, ipu2, ipu21"),
        ({"ipu_model": {"version": ""}}, "must be one of ipu1, ipu2, ipu21"),
        ({"ipu_model": {"tiles_per_ipu": -1}}, "must not be negative"),
        ({"io_tiles": {"place_ops_on_io_tiles": True}}, "Cannot place ops on I/O tiles"),
        ({"io_tiles": {"available_memory_proportion": 1.5}}, "share above 0"),
        ({"norms.experimental.distributed_batch_norm_replica_group_size": 0}, "at least 1"),
        (
            {"experimental": {"multi_replica_distribution": {"process_index": 2, "process_count": 2}}},
            "must be in the range",
        ),
    ],
)
def test_contradictions_are_refused_when_put_in_force(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IPUConfig.from_dict(options).configure_ipu_system()
    with pytest.raises(RuntimeError, match="No IPU devices configured"):
        config.get_ipu_config()


def test_what_is_in_force() -> None:
    root = IPUConfig()
    root.auto_select_ipus = [2, 4]
    root.configure_ipu_system()
    root.auto_select_ipus = 1  # counts only when it is put in force again
    assert [entry.auto_select_ipus for entry in config.get_ipu_config()] == [[2, 4], [2, 4]]
    assert config.export_target().num_ipus == 2
    assert utils.get_num_of_ipus_in_device("/device:IPU:1") == 4
    with pytest.raises(ValueError, match="There is no device"):
        utils.get_num_of_ipus_in_device("/device:IPU:2")
    with pytest.raises(RuntimeError, match="Another IPU configuration"):
        config.configure_ipu_system(root, reset_configuration=False)
    config.configure_ipu_system(root)
    assert config.export_target().num_ipus == 1
    config.reset_ipu_configuration()
    with pytest.raises(RuntimeError):
        config.get_ipu_config()
    with pytest.raises(TypeError, match="must be an IPUConfig"):
        config.configure_ipu_system({"auto_select_ipus": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(("index", "ipus"), [(0, 1), (15, 1), (16, 2), (24, 4), (28, 8), (30, 16)])
def test_selected_devices_have_the_sizes_of_the_listing(index: int, ipus: int) -> None:
    root = IPUConfig()
    root.select_ipus = index
    root.configure_ipu_system()
    assert config.export_target().num_ipus == ipus


@pytest.mark.parametrize(
    ("version", "tiles", "memory"), [("ipu1", 1216, 262144), ("ipu2", 1472, 638976), ("ipu21", 1472, 638976)]
)
def test_the_target_of_each_version(version: str, tiles: int, memory: int) -> None:
    root = IPUConfig()
    root.ipu_model.version = version
    root.configure_ipu_system()
    target = config.export_target()
    assert (target.architecture, target.tiles_per_ipu, target.memory_per_tile) == (version, tiles, memory)
    assert target.memory_per_ipu == tiles * memory
    # A device that is elsewhere is named by the connection.
    root.device_connection.type = DeviceConnectionType.NEVER
    root.device_connection.version = "ipu21"
    root.configure_ipu_system()
    assert config.export_target().architecture == "ipu21"


def test_the_default_target() -> None:
    target = config.export_target()
    assert target == config.ExportTarget(1, "ipu2", 1472, 638976, False, False, False, False, 0, {})


def test_the_target_follows_the_options() -> None:
    root = IPUConfig()
    root.floating_point_behaviour.div0 = True
    root.device_connection.enable_remote_buffers = True
    root.io_tiles.num_io_tiles = 32
    root.io_tiles.place_ops_on_io_tiles = True
    root.ipu_model.tiles_per_ipu = 16
    root.configure_ipu_system()
    target = config.export_target()
    assert (target.inv, target.div0, target.oflo) == (False, True, False)
    assert target.remote_buffers
    assert target.io_tiles_hold == 2
    assert target.tiles_per_ipu == 16
    assert target.options["io_tiles.num_io_tiles"] == "32"
    root.floating_point_behaviour.set_all = True
    root.configure_ipu_system()
    target = config.export_target()
    assert (target.inv, target.div0, target.oflo) == (True, True, True)


def test_what_has_no_effect_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    root = IPUConfig()
    root.matmuls.poplar_options = {"availableMemoryProportion": "0.1"}
    root.auto_select_ipus = 2
    with caplog.at_level(logging.WARNING, "tensorflow_ipu"):
        root.configure_ipu_system()
        root.configure_ipu_system()
    assert [record.message for record in caplog.records] == [
        "IPUConfig: matmuls.poplar_options has no effect on the emulator."
    ]


def test_poplar_flags(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(
        "TF_POPLAR_FLAGS",
        "--use_ipu_model --ipu_model_tiles=8 --disable_poplar_version_check --executable_cache_path=/tmp"
        " --show_progress_bar=false --nonsense",
    )
    with caplog.at_level(logging.WARNING, "tensorflow_ipu"):
        flags = config.poplar_flags()
        config.poplar_flags()
    assert flags == config.PoplarFlags(True, True, 8, False)
    assert [record.message for record in caplog.records] == [
        "TF_POPLAR_FLAGS: --executable_cache_path has no effect on the emulator.",
        "TF_POPLAR_FLAGS: '--nonsense' is not known and is ignored.",
    ]
    assert config.export_target().tiles_per_ipu == 8
    root = IPUConfig()
    root.ipu_model.tiles_per_ipu = 4
    root.configure_ipu_system()
    assert config.export_target().tiles_per_ipu == 4
    assert config.running_on_ipu_model()


@pytest.mark.parametrize(("flag", "bar"), [("true", True), ("false", False), ("auto", False)])
def test_the_progress_bar_of_an_export(flag: str, bar: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_POPLAR_FLAGS", f"--show_progress_bar={flag}")
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(progress.resolve_progress(None), progress.ProgressBar) is bar
    assert not isinstance(progress.resolve_progress(False), progress.ProgressBar)
