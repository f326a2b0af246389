"""Model configs: files that change, reloads over gRPC, labels, policies, warm-up and request logs."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from model_server import ModelServer, anonymous_memory, channel
from prometheus_page import metric_value, monitoring_flag, page
from reload_load import ManyModels, clients, reload_all
from served_models import predict, request, states, wait_until, write_adder
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


@pytest.mark.parametrize(
    "text",
    ["", "model_config_list {}", config('name: "a" base_path: "/a" model_version_policy { specific {} }')],
)
def test_a_config_that_lists_nothing_is_refused(models: Path, tmp_path: Path, text: str) -> None:
    with ModelServer(f"--model_base_path={models / 'a'}", "--model_name=a") as server:
        with pytest.raises(grpc.RpcError) as refused:
            reload(server, text)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert states(server.rest, "a") == {3: ("AVAILABLE", "")}


def test_a_config_file_that_is_cut_or_empty_changes_nothing(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    whole = config(model("a", models / "a"))
    file.write_text(whole)
    with ModelServer(f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1") as server:
        for turn, text in enumerate(("", "# models come later", whole[: len(whole) // 2], whole[:-2]), 1):
            file.write_text(text)
            wait_until(lambda turn=turn: server.log().count("not fully in effect") == turn, "the complaint")
            file.write_text(whole)
            wait_until(lambda turn=turn: server.log().count("is in effect.") == turn, "the whole file")
        assert predict(server.rest, "a", [0.0])[0] == 200
        assert "Unloaded" not in server.log()


def test_a_label_of_a_version_that_comes_later_is_applied_when_it_comes(models: Path, tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_adder(base, 1, 1.0)
    write_adder(tmp_path / "aside", 2, 2.0)
    write_adder(tmp_path / "aside", 3, 3.0)
    file = tmp_path / "models.config"

    def labels(**versions: int) -> str:
        text = "".join(f' version_labels {{ key: "{name}" value: {n} }}' for name, n in versions.items())
        return config(model("m", base, f"model_version_policy {{ all {{}} }} {text}"))

    file.write_text(labels(stable=1))
    with ModelServer(f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1") as server:
        for turn, (label, version, text) in enumerate(
            (("canary", 2, labels(stable=1, canary=2)), ("stable", 3, labels(stable=3, canary=2))), 1
        ):
            replace(file, text)
            wait_until(lambda turn=turn: server.log().count("not fully in effect") == turn, "the complaint")
            assert predict(server.rest, "m", [0.0], "/labels/stable")[1] == {"predictions": [1.0]}
            (tmp_path / "aside" / str(version)).rename(base / str(version))
            expected = (200, {"predictions": [float(version)]})
            wait_until(
                lambda label=label, e=expected: predict(server.rest, "m", [0.0], f"/labels/{label}") == e,
                f"label {label}",
            )
            # It stays so at the next look.
            wait_until(lambda turn=turn: server.log().count("is in effect.") == turn, "the config")
            assert predict(server.rest, "m", [0.0], f"/labels/{label}") == expected
        assert server.log().count("not fully in effect") == 2


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


@pytest.fixture
def monitoring(tmp_path: Path) -> str:
    return monitoring_flag(tmp_path)


def test_warmup_requests_are_replayed_before_a_version_is_served(tmp_path: Path, monitoring: str) -> None:
    version = write_adder(tmp_path / "m", 1, 1.0)
    write_records(version / "assets.extra" / "tf_serving_warmup_requests", [warmup_record(np.float32(1))] * 3)
    runs = ":tensorflow:core:graph_runs"
    base = f"--model_base_path={tmp_path / 'm'}"
    with ModelServer(base, monitoring, "--enable_model_warmup=false") as server:
        without = metric_value(server, runs)
    latency = f':tensorflow:serving:model_warmup_latency_count{{model_path="{version}",status="OK"}}'
    with ModelServer(base, monitoring) as server:
        assert metric_value(server, runs) == without + 3
        assert metric_value(server, latency) == 1
    with ModelServer(base, monitoring, "--num_request_iterations_for_warmup=4") as server:
        assert metric_value(server, runs) == without + 12


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
                " sampling_config { sampling_rate: 1 attributes: 7 } }",
            )
        )
    )
    with ModelServer(f"--model_config_file={file}", monitoring) as server:
        for value in range(5):
            assert predict(server.rest, "m", [float(value)])[0] == 200
        assert predict(server.rest, "m", ["text"])[0] == 400
        metric = ':tensorflow:serving:request_log_count{model_name="m",status_code="OK"}'
        wait_until(lambda: metric_value(server, metric) == 5, "five logged requests")
    records = []
    for name in os.listdir(logs):
        for record in tf.data.TFRecordDataset(str(logs / name)).as_numpy_iterator():
            records.append(prediction_log_pb2.PredictionLog.FromString(record))
    values = [tf.make_ndarray(record.predict_log.request.inputs["x"]).tolist() for record in records]
    assert sorted(values) == [[0.0], [1.0], [2.0], [3.0], [4.0]]
    assert {record.log_metadata.model_spec.version.value for record in records} == {1}
    assert {record.log_metadata.sampling_config.attributes for record in records} == {7}
    # What was logged is a warm-up file as it is.
    (tmp_path / "m" / "1" / "assets.extra").mkdir()
    (logs / os.listdir(logs)[0]).rename(tmp_path / "m" / "1" / "assets.extra" / "tf_serving_warmup_requests")
    with ModelServer(f"--model_base_path={tmp_path / 'm'}", "--model_name=m") as server:
        assert states(server.rest, "m") == {1: ("AVAILABLE", "")}


def logging(prefix: Path, rate: float) -> str:
    return (
        f'logging_config {{ log_collector_config {{ filename_prefix: "{prefix}" }}'
        f" sampling_config {{ sampling_rate: {rate} }} }}"
    )


def test_a_share_of_the_requests_is_logged(models: Path, tmp_path: Path, monitoring: str) -> None:
    file = tmp_path / "models.config"
    file.write_text(
        config(
            model("some", models / "a", logging(tmp_path / "some", 0.5)),
            model("none", models / "a", logging(tmp_path / "none", 0)),
            model("all", models / "a", logging(tmp_path / "all", 1)),
        )
    )
    logged = ":tensorflow:serving:request_log_count"
    with ModelServer(f"--model_config_file={file}", monitoring) as server:
        for _ in range(200):
            assert predict(server.rest, "some", [0.0])[0] == 200
        assert predict(server.rest, "none", [0.0])[0] == 200
        # Records are written in order of arrival.
        assert predict(server.rest, "all", [0.0])[0] == 200
        wait_until(lambda: metric_value(server, logged + '{model_name="all"') == 1, "the last record")
        # 1 in 10^12 runs is outside.
        assert 50 < metric_value(server, logged + '{model_name="some"') < 150
        assert metric_value(server, logged + '{model_name="none"') == 0
    assert {path.name.split("-")[0] for path in tmp_path.glob("*.tfrecord")} == {"some", "all"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model_config_list { config { nmae: 'a' } }", "line 1, column 34"),
        ("custom_model_config {}", "custom_model_config"),
        ("", "lists no model"),
        ("# a comment", "lists no model"),
        (config('base_path: "/m"'), "number 1"),
        (config('name: "m"'), "m has no base_path"),
        (config('name: "m" base_path: "/m"', 'name: "m" base_path: "/n"'), "twice"),
        (config('name: "m" base_path: "/m" model_platform: "caffe"'), 'expected "tensorflow"'),
        (config('name: "m" base_path: "/m" model_version_policy { specific {} }'), "names no version"),
        (config(model("m", Path("/m"), logging(Path("/log"), 2))), "sampling_rate 2"),
        (config(model("m", Path("/m"), "logging_config { sampling_config { sampling_rate: 1 } }")), "prefix"),
        (config(model("m", Path("/m"), "logging_config { custom_logging_config {} }")), "custom_logging"),
        (
            config(model("m", Path("/m"), 'logging_config { log_collector_config { type: "other" } }')),
            'expected "tfrecord"',
        ),
    ],
)
def test_a_config_that_cannot_be_followed_ends_the_start(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "models.config"
    file.write_text(text)
    with pytest.raises(RuntimeError, match=reason):
        ModelServer(f"--model_config_file={file}")


def test_a_relative_base_path_is_meant_from_the_working_directory(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    file = tmp_path / "models.config"
    file.write_text(config('name: "b" base_path: "b"'))
    with ModelServer(f"--model_config_file={file}") as server:
        assert predict(server.rest, "b", [0.0]) == (200, {"predictions": [100.0]})


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


def test_many_models_survive_reloads_under_load(tmp_path: Path) -> None:
    # benchmarks/reload_stress.py does the same with more and for longer.
    models = ManyModels(tmp_path, 30)
    memory = []
    with ModelServer(f"--model_config_file={models.write_config(1)}") as server:
        with clients(server, models, 16) as answers:
            for turn in range(6):
                version = 2 - turn % 2
                reload_all(server, models, version)
                assert answers.wrong == [], f"turn {turn}"
                # The reload returned: the new versions are those that answer.
                for name in models.names[turn::10]:
                    assert predict(server.rest, name, [1.0]) == (200, {"predictions": [1.0 + version]})
                memory.append(anonymous_memory(server))
        assert answers.wrong == []
        assert answers.right > 0
    # The first turns fill caches and pools.
    assert memory[-1] < memory[2] * 1.2, memory
