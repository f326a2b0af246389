"""Models for PJRT plugins in the server: both APIs, rows, replicas, pipelines, reload and unload."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from model_server import ModelServer, anonymous_memory, channel
from pjrt_plugins import cpu_plugin
from served_models import predict, states, wait_until, write_adder
from tensorflow_ipu import serving
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

ROWS = [tf.TensorSpec([8, 2], tf.float32, name="x")]


def export(base: Path, version: int, factor: float, **options: Any) -> None:
    serving.export_single_step(
        lambda x: x * factor,
        str(base / str(version)),
        4,
        ROWS,
        dynamic_batch=True,
        target="cpu-pjrt",
        device_plugin=cpu_plugin().path,
        **options,
    )


def start(base: Path, *flags: str) -> ModelServer:
    return ModelServer(
        f"--model_base_path={base}",
        "--model_name=m",
        f"--device_plugin={cpu_plugin().path}",
        "--file_system_poll_wait_seconds=0",
        *flags,
    )


def wait_for(server: ModelServer, model: str, version: int, state: str) -> str:
    """Waits until the version is in that state, and returns its error message."""
    return wait_until(
        lambda: (
            states(server.rest, model).get(version, ("", ""))[0] == state
            and (states(server.rest, model)[version][1] or "none")
        ),
        f"{model}/{version} is {state}",
    )


def call_grpc(server: ModelServer, x: np.ndarray) -> np.ndarray:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    with channel(server) as connection:
        reply = prediction_service_pb2_grpc.PredictionServiceStub(connection).Predict(request, timeout=60)
    return tf.make_ndarray(next(iter(reply.outputs.values())))


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--ipu_replicas=2",),
        ("--device_steps_in_flight=4",),
        ("--device_steps_in_flight=3", "--ipu_replicas=2"),
    ],
    ids=["plain", "replicas", "in_flight", "both"],
)
def test_rows_of_many_clients_over_both_apis(tmp_path: Path, flags: tuple[str, ...]) -> None:
    export(tmp_path / "m", 1, 2.0)
    with start(tmp_path / "m", *flags) as server:
        wrong: list[Any] = []

        def client(number: int) -> None:
            for turn in range(15):
                x = np.full((1 + (number + turn) % 11, 2), number * 100 + turn, np.float32)
                if turn % 2:
                    result: Any = call_grpc(server, x)
                else:
                    status, answer = predict(server.rest, "m", x.tolist())
                    result = answer["predictions"] if status == 200 else answer
                if not np.array_equal(result, x * 2):
                    wrong.append((x, result))

        clients = [threading.Thread(target=client, args=[number]) for number in range(6)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        assert wrong == []


def test_a_pipeline_on_two_devices(tmp_path: Path) -> None:
    serving.export_pipeline(
        [lambda x: x * 2, lambda y: y + 1],
        str(tmp_path / "m" / "1"),
        4,
        predict_step_signature=ROWS,
        dynamic_batch=True,
        target="cpu-pjrt",
        device_plugin=cpu_plugin().path,
    )
    with start(tmp_path / "m", "--device_steps_in_flight=3") as server:
        for rows in (1, 8, 20):
            x = np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2)
            np.testing.assert_array_equal(call_grpc(server, x), x * 2 + 1)


def multiplication(weights: tf.Tensor) -> Callable:
    return lambda x: x @ weights


def test_reload_and_unload_give_memory_back(tmp_path: Path) -> None:
    base = tmp_path / "m"
    size = 2048
    for version in (1, 2):
        weights = tf.constant(np.random.default_rng(version).normal(size=(size, size)).astype(np.float32))
        serving.export_single_step(
            multiplication(weights),
            str(tmp_path / f"v{version}"),
            4,
            [tf.TensorSpec([1, size], tf.float32, name="x")],
            target="cpu-pjrt",
            device_plugin=cpu_plugin().path,
        )
    base.mkdir()
    (tmp_path / "v1").rename(base / "1")
    with start(base, "--file_system_poll_wait_seconds=1") as server:
        x = np.ones((1, size), np.float32)
        first = call_grpc(server, x)
        (tmp_path / "v2").rename(base / "2")
        wait_for(server, "m", 2, "AVAILABLE")
        wait_for(server, "m", 1, "END")
        second = call_grpc(server, x)
        assert np.abs(first - second).max() > 1
        loaded = anonymous_memory(server)
        for version in (3, 4, 5, 6):
            (base / str(version - 1)).rename(base / str(version))
            wait_for(server, "m", version, "AVAILABLE")
            wait_for(server, "m", version - 1, "END")
            np.testing.assert_array_equal(call_grpc(server, x), second)
        # A version left behind would hold 16 MiB on the host and as much on the device.
        assert anonymous_memory(server) < loaded + 2 * 16 * 1024


def test_a_plugin_that_is_missing_costs_its_model_only(tmp_path: Path) -> None:
    export(tmp_path / "pjrt", 1, 2.0)
    write_adder(tmp_path / "plain", 1, 5)
    config = tmp_path / "models.config"
    config.write_text(
        "model_config_list {"
        + "".join(
            f' config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }}'
            for name in ("pjrt", "plain")
        )
        + " }"
    )
    for flags, says in (
        ((), "--device_plugin"),
        ((f"--device_plugin={tmp_path / 'gone.so'}",), "gone.so"),
    ):
        with ModelServer(f"--model_config_file={config}", "--max_num_load_retries=0", *flags) as server:
            wait_for(server, "plain", 1, "AVAILABLE")
            assert says in wait_for(server, "pjrt", 1, "END")
            status, answer = predict(server.rest, "plain", [1.0])
            assert (status, answer["predictions"]) == (200, [6.0])


def test_flags_of_devices(tmp_path: Path) -> None:
    export(tmp_path / "m", 1, 2.0)
    with start(
        tmp_path / "m",
        "--device_steps_in_flight=2",
        "--device_step_timeout_in_ms=30000",
        "--device_load_timeout_in_ms=120000",
    ) as server:
        np.testing.assert_array_equal(call_grpc(server, np.ones((1, 2), np.float32)), [[2, 2]])
    # The options of a GPU's memory reach the plugin. For the CPU there are none: newer plugins refuse them by
    # name, and old ones do not look at them.
    for flag in ("--device_preallocate=false", "--device_memory_fraction=0.5"):
        with start(tmp_path / "m", flag) as server:
            if cpu_plugin().package == "lammps-jax-pjrt-cpu":
                assert flag[9:].split("=")[0] in wait_for(server, "m", 1, "END")
            else:
                np.testing.assert_array_equal(call_grpc(server, np.ones((1, 2), np.float32)), [[2, 2]])
    for flag in (
        "--device_preallocate=perhaps",
        "--device_memory_fraction=2",
        "--device_steps_in_flight=65",
        "--device_step_timeout_in_ms=0",
        "--device_load_timeout_in_ms=0",
    ):
        with pytest.raises(RuntimeError, match=flag.split("=")[0]):
            start(tmp_path / "m", flag)
