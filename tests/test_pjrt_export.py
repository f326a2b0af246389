"""Models that are compiled for the devices of a PJRT plugin: what they compute, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from pjrt_plugins import CPU_PLUGINS, cpu_plugin, cuda_plugin
from tensorflow_ipu import embedded_runtime, loops, serving
from tensorflow_ipu._runtime import native
from tensorflow_ipu.application_compile_op import experimental_application_compile_op
from tensorflow_ipu.cli import main
from tensorflow_ipu.cli.executable_files import read_header
from tensorflow_ipu.config.targets import resolve_target, target_names
from tensorflow_ipu.ipu_infeed_queue import IPUInfeedQueue
from tensorflow_ipu.ipu_outfeed_queue import IPUOutfeedQueue
from test_command_line import edit_header

FOUR = [tf.TensorSpec([4], tf.float32, name="x")]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def perceptron() -> tuple[Callable, np.ndarray]:
    model = keras.Sequential(
        [keras.Input([784]), *[keras.layers.Dense(512, "relu") for _ in range(2)], keras.layers.Dense(10)]
    )
    return model, normal(32, 784)


def recurrent() -> tuple[Callable, np.ndarray]:
    model = keras.Sequential([keras.Input([12, 8]), keras.layers.LSTM(16), keras.layers.Dense(4)])
    return lambda x: model(x, training=False), normal(3, 12, 8)


def transformer() -> tuple[Callable, np.ndarray]:
    tokens = keras.Input([16], dtype="int32")
    x = keras.layers.Embedding(100, 32)(tokens)
    for _ in range(2):
        x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(4, 8)(x, x))
        x = keras.layers.LayerNormalization()(x + keras.layers.Dense(32)(keras.layers.Dense(64, "gelu")(x)))
    model = keras.Model(tokens, keras.layers.Dense(100)(x))
    ids = np.random.default_rng(1).integers(0, 100, (2, 16), dtype=np.int32)
    return lambda tokens: model(tokens, training=False), ids


def resnet50() -> tuple[Callable, np.ndarray]:
    model = keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=(64, 64, 3)
    )
    return lambda image: model(image, training=False), normal(2, 64, 64, 3)


@pytest.mark.parametrize("make", [perceptron, recurrent, transformer, resnet50])
def test_numbers_are_the_emulators(tmp_path: Path, make: Callable) -> None:
    plugin = cpu_plugin()
    model, x = make()
    specs = [tf.TensorSpec(x.shape, x.dtype)]
    emulated = serving.export_single_step(model, str(tmp_path / "ipu"), 4, specs)
    run = serving.export_single_step(
        model, str(tmp_path / "pjrt"), 4, specs, target="cpu-pjrt", device_plugin=plugin.path
    )
    expected = np.asarray(emulated(x)[0])
    np.testing.assert_allclose(run(x)[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("plugin", CPU_PLUGINS or [None], ids=lambda plugin: plugin.package if plugin else "")
def test_each_plugin_runs_rows_and_pipelines(tmp_path: Path, plugin: Any) -> None:
    cpu_plugin()
    options = {"target": "cpu-pjrt", "device_plugin": plugin.path}
    weights = tf.constant(normal(16, 16))

    def layer(x: tf.Tensor) -> tf.Tensor:
        return tf.tanh(x @ weights)

    spec = [tf.TensorSpec([8, 16], tf.float32, name="x")]
    run = serving.export_single_step(layer, str(tmp_path / "rows"), 4, spec, dynamic_batch=True, **options)
    for rows in (1, 3, 8, 21):
        x = normal(rows, 16)
        np.testing.assert_allclose(run(x)[0], layer(x), atol=1e-6)
    pipeline = serving.export_pipeline(
        [layer, lambda y: y * 2 + 1], str(tmp_path / "pipeline"), 4, predict_step_signature=spec, **options
    )
    x = normal(8, 16)
    for _ in range(20):
        np.testing.assert_allclose(pipeline(x)[0], layer(x) * 2 + 1, atol=1e-6)


def test_carried_values(tmp_path: Path) -> None:
    plugin = cpu_plugin()
    outfeed = IPUOutfeedQueue()
    infeed = IPUInfeedQueue(tf.data.Dataset.from_tensors(np.zeros(4, np.float32)).repeat())

    def body(total: tf.Tensor, count: tf.Tensor, x: tf.Tensor) -> Any:
        total += x
        return total, count + 1, outfeed.enqueue({"total": total * 2, "count": count})

    path = experimental_application_compile_op(
        lambda: loops.repeat(3, body, [tf.fill([4], 100.0), 7], infeed),
        output_path=tmp_path / "a.exec",
        target="cpu-pjrt",
        device_plugin=plugin.path,
    )
    context = embedded_runtime.embedded_runtime_start(path, [], "pjrt_carried")
    try:
        seen = [
            embedded_runtime.embedded_runtime_call([np.full(4, value, np.float32)], context)
            for value in (1, 2, 3, 4, 5)
        ]
    finally:
        embedded_runtime.embedded_runtime_stop(context)
    assert [result[0][0].numpy() for result in seen] == [202, 206, 212, 208, 218]
    assert [result[1].numpy() for result in seen] == [7, 8, 9, 7, 8]


@pytest.fixture(scope="module")
def doubling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An executable of x * 2 on float32 [4] for the CPU's plugin."""
    plugin = cpu_plugin()
    folder = tmp_path_factory.mktemp("doubling") / "m"
    serving.export_single_step(
        lambda x: x * 2, str(folder), 4, FOUR, target="cpu-pjrt", device_plugin=plugin.path
    )
    return folder / "assets" / "executable.ipu"


@pytest.fixture
def executable(doubling: Path, tmp_path: Path) -> Path:
    """A copy that a test may harm."""
    return Path(shutil.copy(doubling, tmp_path / "executable.ipu"))


def refusal(path: Path) -> str:
    with pytest.raises(native.StatusError) as raised:
        native.LoadProgram(str(path))
    return raised.value.message


def test_damage_at_200_places_is_refused(executable: Path) -> None:
    good = executable.read_bytes()
    for place in np.linspace(0, len(good) - 1, 200).astype(int):
        for flipped in (1, 0x80):
            damaged = bytearray(good)
            damaged[place] ^= flipped
            executable.write_bytes(damaged)
            assert str(executable) in refusal(executable)
    executable.write_bytes(good)
    native.LoadProgram(str(executable))


def test_files_of_others_are_refused_and_both_sides_named(executable: Path) -> None:
    plugin = cpu_plugin()
    digest = bytes.fromhex(hash_of_plugin(executable))
    version = plugin.version.encode()
    other = bytes([*version[:-1], version[-1] ^ 1])
    good = executable.read_bytes()
    for old, new, found, here in (
        (digest, b"\1" * 32, "01" * 32, digest.hex()),
        (version, other, other.decode(), plugin.version),
        (b"\x12\x03cpu", b"\x12\x03gpu", "platform 'gpu'", "'cpu'"),
        (b"\x22\x03cpu", b"\x22\x03xpu", "device 'xpu'", "'cpu'"),
    ):
        executable.write_bytes(good)
        edit_header(executable, old, new)
        message = refusal(executable)
        assert found in message and here in message, message
        assert "cpu-pjrt" in message


def hash_of_plugin(path: Path) -> str:
    return read_header(str(path))["target"]["plugin"]["sha256"]


def test_inspect_and_doctor_show_and_compare_the_identity(
    executable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = cpu_plugin()
    assert main(["inspect", str(executable)]) == 0
    shown = capsys.readouterr().out
    for text in (
        "cpu-pjrt: PJRT platform cpu",
        plugin.package,
        plugin.version,
        hash_of_plugin(executable),
        "xla_version",
    ):
        assert text in shown
    assert main(["doctor", str(executable)]) == 0
    shown = capsys.readouterr().out
    for subject in ("PJRT API", "plugin SHA-256", "platform", "device", "run"):
        assert f"  ok    {subject}" in shown
    edit_header(executable, bytes.fromhex(hash_of_plugin(executable)), b"\1" * 32)
    assert main(["doctor", str(executable)]) == 1
    shown = capsys.readouterr().out
    assert "bad   plugin SHA-256" in shown and "01" * 32 in shown


def test_wrong_targets_and_plugins_are_named(tmp_path: Path) -> None:
    assert {"ipu", "cpu-pjrt", "cuda:h100", "tpu:v5e"} <= set(target_names())
    assert resolve_target("ipu") is None
    for target in ("gpu", "cuda:h10", "cpu", "tpu:v0", "cuda:"):
        with pytest.raises(ValueError, match="There is no target.*'cuda:h100'"):
            resolve_target(target)
    with pytest.raises(TypeError, match="name of a target"):
        resolve_target(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no PJRT plugin at"):
        resolve_target("cuda:h100", str(tmp_path / "none.so"))
    with pytest.raises(ValueError, match="`device_plugin` is for PJRT targets"):
        resolve_target("ipu", "plugin.so")
    text = tmp_path / "text.so"
    text.write_text("no library")
    with pytest.raises((ValueError, tf.errors.FailedPreconditionError), match="cannot be loaded"):
        serving.export_single_step(
            lambda x: x, str(tmp_path / "m"), 1, FOUR, target="cuda:h100", device_plugin=str(text)
        )
    assert not (tmp_path / "m").exists()


def test_flags_that_would_end_the_process_are_refused(executable: Path) -> None:
    code = (
        "from tensorflow_ipu import _native as native\n"
        f"native.add_device_plugin({cpu_plugin().path!r})\n"
        f"native.LoadProgram({str(executable)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XLA_FLAGS": "--xla_no_such_flag=1", "TF_XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "--xla_no_such_flag=1" in done.stderr and "StatusError" in done.stderr


def test_an_export_for_a_gpu_needs_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cuda_plugin()
    weights = tf.constant(normal(64, 64))
    run = serving.export_single_step(
        lambda x: tf.nn.relu(x @ weights),
        str(tmp_path / "m"),
        4,
        [tf.TensorSpec([8, 64], tf.float32, name="x")],
        target="cuda:h100",
        dynamic_batch=True,
    )
    assert main(["inspect", str(tmp_path / "m")]) == 0
    assert "'NVIDIA H100 80GB HBM3, capability 9.0'" in capsys.readouterr().out
    if native.offers() and any(
        '"platform":"cuda"' in target for target, problem in native.offers() if not problem
    ):
        return  # there is one
    with pytest.raises(tf.errors.FailedPreconditionError, match="cuda:h100"):
        run(normal(8, 64))
