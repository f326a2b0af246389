"""Exported models in the server: answers, damaged files, engines that come and go, many clients."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from model_server import ModelServer, channel
from served_models import predict, states, wait_until
from tensorflow_ipu import serving
from tensorflow_serving.apis import predict_pb2


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of x * 2 on float32 [4], the documented first example."""
    path = tmp_path_factory.mktemp("exported") / "model"

    @tf.function(input_signature=[tf.TensorSpec([4], tf.float32, name="x")])
    def predict_step(x: tf.Tensor) -> tf.Tensor:
        return x * 2

    serving.export_single_step(predict_step, str(path), 10)
    return path


def executable_of(version: Path) -> Path:
    (found,) = (version / "assets").iterdir()
    return found


def test_serves_the_documented_example_and_survives_moving(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "moved" / "m" / "1")
    with ModelServer(f"--model_base_path={tmp_path / 'moved' / 'm'}", "--model_name=my_model") as server:
        assert predict(server.rest, "my_model", [1.0, 2.0, 5.0, 7.0]) == (
            200,
            {"predictions": [2.0, 4.0, 10.0, 14.0]},
        )
        assert predict(server.rest, "my_model", [1.0, 2.0])[0] == 400


def damage_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damage_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1000] ^= 4
    file.write_bytes(content)


def damage_missing(file: Path) -> None:
    file.unlink()


# What is cut or missing may still come: such a version is waited for.
@pytest.mark.parametrize(
    "damage, expected", [(damage_cut, "START"), (damage_bit, "END"), (damage_missing, "START")]
)
def test_a_damaged_executable_is_a_clear_status(
    exported: Path, tmp_path: Path, damage: object, expected: str
) -> None:
    shutil.copytree(exported, tmp_path / "m" / "1")
    shutil.copytree(exported, tmp_path / "m" / "aside")
    damage(executable_of(tmp_path / "m" / "aside"))  # type: ignore[operator]
    (tmp_path / "m" / "aside").rename(tmp_path / "m" / "2")
    with ModelServer(f"--model_base_path={tmp_path / 'm'}", "--model_name=m") as server:
        state, reason = states(server.rest, "m")[2]
        assert state == expected
        assert "executable" in reason
        # The server is alive, and serves what is not damaged as soon as it is wanted.
        shutil.rmtree(tmp_path / "m" / "2")
        wait_until(lambda: predict(server.rest, "m", [1.0] * 4)[0] == 200, "version 1")


def test_an_executable_of_another_tensorflow_is_a_clear_status(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "m" / "1")
    file = executable_of(tmp_path / "m" / "1")
    content = bytearray(file.read_bytes())
    # docs/design/executable_format.md: the header's size is at 16, its SHA-256 at 32, and it starts at 64.
    header_end = 64 + int.from_bytes(content[16:24], "little")
    found = content.index(b"\x062.21.0", 64, header_end)
    content[found + 1 : found + 7] = b"2.20.0"
    content[32:64] = hashlib.sha256(content[:32] + content[64:header_end]).digest()
    file.write_bytes(content)
    with ModelServer(f"--model_base_path={tmp_path / 'm'}", "--model_name=m") as server:
        state, reason = states(server.rest, "m")[1]
        assert state == "END"
        assert "2.20.0" in reason and "2.21.0" in reason


def test_two_versions_run_engines_of_their_own(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "m" / "1")

    def triple(x: tf.Tensor) -> tf.Tensor:
        return x * 3

    serving.export_single_step(
        triple,
        str(tmp_path / "m" / "2"),
        10,
        predict_step_signature=[tf.TensorSpec([4], tf.float32, name="x")],
    )
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path / "m"}" model_platform: "tensorflow"'
        " model_version_policy { all {} } } }"
    )
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with ModelServer(f"--model_config_file={config}", f"--monitoring_config_file={monitoring}") as server:
        ones = [1.0] * 4
        assert predict(server.rest, "m", ones, "/versions/1") == (200, {"predictions": [2.0] * 4})
        assert predict(server.rest, "m", ones, "/versions/2") == (200, {"predictions": [3.0] * 4})
        with urllib.request.urlopen(f"{server.rest}/monitoring/prometheus/metrics", timeout=30) as response:
            page = response.read().decode()
        calls = [line for line in page.splitlines() if line.startswith(":tensorflow_ipu:engine:calls_count")]
        assert len(calls) == 2
        assert all(line.endswith(" 1") for line in calls)


CLIENTS, REQUESTS = 64, 20_000


def test_many_clients_get_their_own_answers(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "m" / "1")
    with ModelServer(f"--model_base_path={tmp_path / 'm'}", "--model_name=m") as server:
        wrong: list[object] = []

        def rest_client(client: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
            for number in range(REQUESTS // CLIENTS + 1):
                value = float(client * 1000 + number)
                connection.request("POST", "/v1/models/m:predict", json.dumps({"instances": [value] * 4}))
                answer = json.loads(connection.getresponse().read())
                if answer != {"predictions": [2 * value] * 4}:
                    wrong.append(answer)

        def grpc_client(client: int) -> None:
            with channel(server) as connection:
                call = connection.unary_unary(
                    "/tensorflow.serving.PredictionService/Predict",
                    predict_pb2.PredictRequest.SerializeToString,
                    predict_pb2.PredictResponse.FromString,
                )
                request = predict_pb2.PredictRequest()
                request.model_spec.name = "m"
                for number in range(REQUESTS // CLIENTS + 1):
                    value = float(client * 1000 + number)
                    tensor = request.inputs["x"]
                    tensor.dtype = 1
                    tensor.tensor_shape.dim.add().size = 4
                    tensor.tensor_content = np.full(4, value, np.float32).tobytes()
                    (result,) = call(request, timeout=60).outputs.values()
                    if list(result.float_val) != [2 * value] * 4:
                        wrong.append(result)
                    tensor.Clear()

        for client in (rest_client, grpc_client):
            threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert wrong == []
        # Each request was counted as answered: none was lost.
        assert server.process.poll() is None
