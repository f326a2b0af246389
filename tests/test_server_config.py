"""Model configs: files that change, reloads over gRPC, labels, policies, warm-up and request logs."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from model_server import ModelServer, anonymous_memory, channel
from reload_load import ManyModels, clients, reload_all
from served_models import predict, request, states, wait_until, write_adder, write_batch_size
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
)


def config(*models: str) -> str:
    return "model_config_list {\n" + "\n".join(f"  config {{ {model} }}" for model in models) + "\n}\n"


def model(name: str, base: Path, rest: str = "") -> str:
    return f'name: "{name}" base_path: "{base}" model_platform: "tensorflow" {rest}'


def replace(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text)
    unfinished.rename(path)


def reload(server: ModelServer, text: str) -> None:
    """HandleReloadConfigRequest. Raises grpc.RpcError, or ValueError with the status in the answer."""
    message = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, message.config, allow_unknown_extension=False)
    with channel(server) as connection:
        stub = model_service_pb2_grpc.ModelServiceStub(connection)
        answer = stub.HandleReloadConfigRequest(message, timeout=60)
    if answer.status.error_code:
        raise ValueError(answer.status.error_message)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for version in (1, 2, 3):
        write_adder(root / "a", version, float(version))
    write_adder(root / "b", 1, 100.0)
    write_adder(root / "elsewhere", 1, 500.0)
    return root


def test_policies_and_labels(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(
        config(
            model("latest", models / "a"),
            model("two", models / "a", "model_version_policy { latest { num_versions: 2 } }"),
            model("all", models / "a", "model_version_policy { all {} }"),
            model(
                "some",
                models / "a",
                "model_version_policy { specific { versions: 1 versions: 2 } }"
                ' version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }',
            ),
        )
    )
    with ModelServer(f"--model_config_file={file}") as server:
        assert set(states(server.rest, "latest")) == {3}
        assert set(states(server.rest, "two")) == {2, 3}
        assert set(states(server.rest, "all")) == {1, 2, 3}
        assert set(states(server.rest, "some")) == {1, 2}
        assert predict(server.rest, "some", [0.0])[1] == {"predictions": [2.0]}
        assert predict(server.rest, "some", [0.0], "/labels/stable")[1] == {"predictions": [1.0]}
        assert predict(server.rest, "some", [0.0], "/labels/canary")[1] == {"predictions": [2.0]}
        assert predict(server.rest, "some", [0.0], "/labels/nope")[0] == 400


def test_a_config_file_that_changes_takes_effect(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(config(model("a", models / "a")))
    with ModelServer(f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1") as server:
        replace(file, config(model("a", models / "a"), model("b", models / "b")))
        wait_until(lambda: predict(server.rest, "b", [0.0])[0] == 200, "model b")
        replace(file, "no config")
        wait_until(lambda: "not fully in effect" in server.log(), "the complaint")
        assert predict(server.rest, "a", [0.0])[0] == 200
        replace(file, config(model("b", models / "elsewhere")))
        wait_until(
            lambda: predict(server.rest, "b", [0.0])[1] == {"predictions": [500.0]}, "the new base path"
        )
        wait_until(lambda: predict(server.rest, "a", [0.0])[0] == 404, "the end of model a")


def test_reload_over_grpc(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(config(model("a", models / "a")))
    with ModelServer(f"--model_config_file={file}") as server:
        reload(server, config(model("a", models / "a"), model("b", models / "b")))
        assert predict(server.rest, "b", [0.0]) == (200, {"predictions": [100.0]})
        # Model, version and label in one step.
        reload(
            server,
            config(
                model(
                    "a",
                    models / "a",
                    'model_version_policy { specific { versions: 1 } } version_labels { key: "l" value: 1 }',
                )
            ),
        )
        assert predict(server.rest, "a", [0.0], "/labels/l") == (200, {"predictions": [1.0]})
        assert predict(server.rest, "b", [0.0])[0] == 404
        for bad in (
            config('name: "c"'),
            config(
                model(
                    "a",
                    models / "a",
                    'model_version_policy { specific { versions: 1 } } version_labels { key: "l" value: 9 }',
                )
            ),
        ):
            with pytest.raises((grpc.RpcError, ValueError)):
                reload(server, bad)
            assert predict(server.rest, "a", [0.0], "/labels/l") == (200, {"predictions": [1.0]})


@pytest.mark.parametrize("allowed", [False, True])
def test_labels_for_unavailable_versions(models: Path, allowed: bool) -> None:
    with ModelServer(
        f"--model_base_path={models / 'a'}",
        "--model_name=a",
        f"--allow_version_labels_for_unavailable_models={allowed}".lower(),
    ) as server:
        labelled = config(model("a", models / "a", 'version_labels { key: "next" value: 9 }'))
        if allowed:
            reload(server, labelled)
            assert predict(server.rest, "a", [0.0], "/labels/next")[0] == 404
        else:
            with pytest.raises((grpc.RpcError, ValueError)):
                reload(server, labelled)
            assert predict(server.rest, "a", [0.0], "/labels/next")[0] == 400


def write_records(path: Path, records: list[bytes]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def warmup_record(value: object) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    message: predict_pb2.PredictRequest = log.predict_log.request
    message.model_spec.name = "m"
    message.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([value])))
    return log.SerializeToString()


def count(server: ModelServer, metric: str) -> float:
    with_labels = [line for line in page(server).splitlines() if line.startswith(metric)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in with_labels)


def page(server: ModelServer) -> str:
    with urllib.request.urlopen(f"{server.rest}/monitoring/prometheus/metrics", timeout=30) as response:
        return response.read().decode()


@pytest.fixture
def monitoring(tmp_path: Path) -> str:
    file = tmp_path / "monitoring.config"
    file.write_text("prometheus_config { enable: true }")
    return f"--monitoring_config_file={file}"


def test_warmup_requests_are_replayed_before_a_version_is_served(tmp_path: Path, monitoring: str) -> None:
    version = write_adder(tmp_path / "m", 1, 1.0)
    write_records(version / "assets.extra" / "tf_serving_warmup_requests", [warmup_record(np.float32(1))] * 3)
    runs = ":tensorflow:core:graph_runs"
    base = f"--model_base_path={tmp_path / 'm'}"
    with ModelServer(base, monitoring, "--enable_model_warmup=false") as server:
        without = count(server, runs)
    latency = f':tensorflow:serving:model_warmup_latency_count{{model_path="{version}",status="OK"}}'
    with ModelServer(base, monitoring) as server:
        assert count(server, runs) == without + 3
        assert count(server, latency) == 1
    with ModelServer(base, monitoring, "--num_request_iterations_for_warmup=4") as server:
        assert count(server, runs) == without + 12


def test_a_warmup_request_that_fails_fails_the_version(tmp_path: Path) -> None:
    version = write_adder(tmp_path / "m", 1, 1.0)
    write_records(version / "assets.extra" / "tf_serving_warmup_requests", [warmup_record("text")])
    with ModelServer(f"--model_base_path={tmp_path / 'm'}", "--model_name=m") as server:
        state, reason = states(server.rest, "m")[1]
        assert state == "END"
        assert "Warm-up record 1" in reason


def test_requests_are_logged_as_the_config_says(tmp_path: Path, monitoring: str) -> None:
    write_adder(tmp_path / "m", 1, 1.0)
    file = tmp_path / "models.config"
    logs = tmp_path / "logs"
    logs.mkdir()
    file.write_text(
        config(
            model(
                "m",
                tmp_path / "m",
                'logging_config { log_collector_config { type: "tfrecord"'
                f' filename_prefix: "{logs / "m"}" }}'
                " sampling_config { sampling_rate: 1 } }",
            )
        )
    )
    with ModelServer(f"--model_config_file={file}", monitoring) as server:
        for value in range(5):
            assert predict(server.rest, "m", [float(value)])[0] == 200
        assert predict(server.rest, "m", ["text"])[0] == 400
        metric = ':tensorflow:serving:request_log_count{model_name="m",status_code="OK"}'
        wait_until(lambda: count(server, metric) == 5, "five logged requests")
    records = []
    for name in os.listdir(logs):
        for record in tf.data.TFRecordDataset(str(logs / name)).as_numpy_iterator():
            records.append(prediction_log_pb2.PredictionLog.FromString(record))
    values = [tf.make_ndarray(record.predict_log.request.inputs["x"]).tolist() for record in records]
    assert sorted(values) == [[0.0], [1.0], [2.0], [3.0], [4.0]]
    assert {record.log_metadata.model_spec.version.value for record in records} == {1}
    # What was logged is a warm-up file as it is.
    (tmp_path / "m" / "1" / "assets.extra").mkdir()
    (logs / os.listdir(logs)[0]).rename(tmp_path / "m" / "1" / "assets.extra" / "tf_serving_warmup_requests")
    with ModelServer(f"--model_base_path={tmp_path / 'm'}", "--model_name=m") as server:
        assert states(server.rest, "m") == {1: ("AVAILABLE", "")}


def test_a_config_that_cannot_be_followed_ends_the_start(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(config(model("m", tmp_path, "logging_config { sampling_config { sampling_rate: 2 } }")))
    with pytest.raises(RuntimeError, match="sampling_rate 2"):
        ModelServer(f"--model_config_file={file}")


def test_prometheus_page_counts_requests(models: Path, monitoring: str) -> None:
    with ModelServer(f"--model_base_path={models / 'a'}", "--model_name=a", monitoring) as server:
        for _ in range(3):
            predict(server.rest, "a", [0.0])
        predict(server.rest, "a", ["text"])
        predict(server.rest, "stranger", [0.0])
        text = page(server)
        assert ':tensorflow:serving:request_count{model_name="a",status="OK"} 3\n' in text
        assert ':tensorflow:serving:request_count{model_name="a",status="INVALID_ARGUMENT"} 1\n' in text
        assert "stranger" not in text
        assert (
            ':tensorflow:serving:request_latency_count{model_name="a",API="predict",entrypoint="REST"} 3\n'
            in text
        )
    with ModelServer(f"--model_base_path={models / 'a'}", "--model_name=a") as server:
        assert request(f"{server.rest}/monitoring/prometheus/metrics")[0] != 200


def batch_sizes(server: ModelServer, clients: int) -> list[int]:
    """What as many concurrent calls of one row each say of their batches."""
    with channel(server) as connection:
        call = connection.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            predict_pb2.PredictRequest.SerializeToString,
            predict_pb2.PredictResponse.FromString,
        )
        message = predict_pb2.PredictRequest()
        message.model_spec.name = "m"
        message.inputs["x"].CopyFrom(tf.make_tensor_proto(np.zeros(1, np.float32)))
        futures = [call.future(message, timeout=60) for _ in range(clients)]
        return [int(tf.make_ndarray(future.result().outputs["rows"])[0]) for future in futures]


def test_batches_form_within_the_timeout(tmp_path: Path) -> None:
    write_batch_size(tmp_path / "m", 1)
    file = tmp_path / "batching.config"
    file.write_text("max_batch_size { value: 4 } batch_timeout_micros { value: 30000000 }")
    flags = [f"--model_base_path={tmp_path / 'm'}", "--model_name=m", "--enable_batching"]
    with ModelServer(*flags, f"--batching_parameters_file={file}") as server:
        assert batch_sizes(server, 8) == [4] * 8
        status, answer = predict(server.rest, "m", [0.0] * 5)
        assert status == 400
        assert "Task size 5 is larger than maximum input batch size 4" in answer["error"]
    # A version's own parameters count when they are asked for.
    (tmp_path / "m" / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    with ModelServer(
        *flags, f"--batching_parameters_file={file}", "--enable_per_model_batching_parameters"
    ) as server:
        assert batch_sizes(server, 4) == [2] * 4


def test_platform_config_gives_session_and_batching(tmp_path: Path) -> None:
    write_batch_size(tmp_path / "m", 1)
    file = tmp_path / "platform.config"
    file.write_text(
        'platform_configs { key: "tensorflow" value { source_adapter_config {'
        " [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] { legacy_config {"
        " session_config { intra_op_parallelism_threads: 1 }"
        " batching_parameters { max_batch_size { value: 2 } batch_timeout_micros { value: 30000000 } }"
        " } } } } }"
    )
    with ModelServer(
        f"--model_base_path={tmp_path / 'm'}", "--model_name=m", f"--platform_config_file={file}"
    ) as server:
        assert batch_sizes(server, 2) == [2, 2]


def test_many_models_survive_reloads_under_load(tmp_path: Path) -> None:
    # benchmarks/reload_stress.py does the same for longer and reports the figures.
    models = ManyModels(tmp_path, 100)
    memory = []
    with ModelServer(f"--model_config_file={models.write_config(1)}") as server:
        with clients(server, models, 16) as answers:
            for turn in range(8):
                version = 2 - turn % 2
                reload_all(server, models, version)
                assert answers.wrong == [], f"turn {turn}"
                # The reload returned: the new versions are those that answer.
                for name in models.names[turn::20]:
                    assert predict(server.rest, name, [1.0]) == (200, {"predictions": [1.0 + version]})
                memory.append(anonymous_memory(server))
        assert answers.wrong == []
        assert answers.right > 0
    # The first turns fill caches and pools. One set of models is about a third of what is in use.
    assert memory[-1] < memory[3] * 1.2, memory
