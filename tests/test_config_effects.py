"""What the configuration changes about exported programs and about the emulator that runs them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ipu import serving
from tensorflow_ipu._runtime import native
from tensorflow_ipu.config import DeviceConnectionType, IPUConfig, reset_ipu_configuration

FOUR = [tf.TensorSpec([4], tf.float32)]


@pytest.fixture(autouse=True)
def nothing_in_force(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TF_POPLAR_FLAGS", raising=False)
    reset_ipu_configuration()
    yield
    reset_ipu_configuration()


def header_of(directory: Path) -> dict[str, Any]:
    return json.loads(native.inspect(str(directory / "assets" / "executable.ipu")))


def test_the_target_is_in_the_executable(tmp_path: Path) -> None:
    config = IPUConfig()
    config.auto_select_ipus = 2
    config.device_connection.type = DeviceConnectionType.PRE_COMPILE
    config.device_connection.version = "ipu1"
    config.device_connection.enable_remote_buffers = False
    config.ipu_model.tiles_per_ipu = 1000
    config.matmuls.poplar_options = {"availableMemoryProportion": "0.1"}
    config.configure_ipu_system()
    stages = [lambda x: x * 2, lambda x: x + 3]
    serving.export_pipeline(stages, str(tmp_path / "m"), 4, predict_step_signature=FOUR)
    header = header_of(tmp_path / "m")
    target = header["target"]
    ipu = target["ipu"]
    assert (ipu["architecture"], target["num_ipus"]) == ("ipu1", 2)
    assert (ipu["tiles_per_ipu"], int(ipu["memory_per_tile"])) == (1000, 256 * 1024)
    assert header["options"]["matmuls.poplar_options"] == '{"availableMemoryProportion": "0.1"}'


def test_a_model_larger_than_the_memory_of_an_ipu(tmp_path: Path) -> None:
    config = IPUConfig()
    config.ipu_model.tiles_per_ipu = 2
    config.configure_ipu_system()
    weights = tf.constant(np.random.default_rng(1).normal(size=[1024, 1024]).astype(np.float32))
    signature = [tf.TensorSpec([1, 1024], tf.float32)]
    with pytest.raises(tf.errors.ResourceExhaustedError) as error:
        serving.export_single_step(lambda x: x @ weights, str(tmp_path / "m"), 4, signature)
    assert "4.0 MiB" in error.value.message  # needed
    assert "1.2 MiB (1277952 bytes)" in error.value.message  # 2 tiles of 624 KiB
    assert not (tmp_path / "m").exists()
    config.ipu_model.tiles_per_ipu = 16
    config.configure_ipu_system()
    serving.export_single_step(lambda x: x @ weights, str(tmp_path / "m"), 4, signature)


def divide(x: tf.Tensor) -> tf.Tensor:
    return 1.0 / x


def root(x: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(x)


def square(x: tf.Tensor) -> tf.Tensor:
    return x * x


@pytest.mark.parametrize(
    ("exception", "function", "bad"), [("div0", divide, 0.0), ("inv", root, -1.0), ("oflo", square, 1e30)]
)
@pytest.mark.parametrize("pipelined", [False, True])
def test_floating_point_exceptions(
    exception: str, function: Any, bad: float, pipelined: bool, tmp_path: Path
) -> None:
    def export(directory: Path) -> Any:
        if pipelined:
            stages = [tf.identity, function, tf.identity]
            return serving.export_pipeline(stages, str(directory), 4, predict_step_signature=FOUR)
        return serving.export_single_step(function, str(directory), 4, FOUR)

    config = IPUConfig()
    config.auto_select_ipus = 3
    config.configure_ipu_system()
    quiet = export(tmp_path / "quiet")
    assert not np.isfinite(quiet(tf.fill([4], bad))[0]).any()

    setattr(config.floating_point_behaviour, exception, True)
    config.configure_ipu_system()
    run = export(tmp_path / "strict")
    for _ in range(3):
        np.testing.assert_allclose(run(tf.fill([4], 4.0))[0], function(tf.fill([4], 4.0)))
        with pytest.raises(tf.errors.InternalError, match="application_runtime_error"):
            run(tf.fill([4], bad))
    np.testing.assert_allclose(run(tf.fill([4], 4.0))[0], function(tf.fill([4], 4.0)))


def test_io_tiles_hold_batches_back(tmp_path: Path) -> None:
    config = IPUConfig()
    config.io_tiles.num_io_tiles = 32
    config.configure_ipu_system()
    serving.export_single_step(square, str(tmp_path / "m"), 4, FOUR)
    assert header_of(tmp_path / "m").get("hold", 0) == 0
    config.io_tiles.place_ops_on_io_tiles = True
    config.configure_ipu_system()
    run = serving.export_single_step(square, str(tmp_path / "n"), 4, FOUR)
    assert header_of(tmp_path / "n")["hold"] == 2
    for value in range(10):  # each call is alone, so that the timeout pushes it through
        np.testing.assert_array_equal(run(tf.fill([4], float(value))), [[value * value] * 4])
