"""Calls that wait for a device: how many may, who goes first, and what ends the wait."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from model_server import ModelServer, channel
from served_models import predict, request, wait_until
from tensorflow_ipu import serving
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

# An hour: a call whose rows do not fill a batch of four waits for others.
WAIT = "--ipu_max_wait_us=3600000000"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Doubles rows of one float, four at a time."""

    @tf.function(input_signature=[tf.TensorSpec([4, 1], tf.float32, name="x")])
    def predict_step(x: tf.Tensor) -> tf.Tensor:
        return x * 2

    base = tmp_path_factory.mktemp("model")
    serving.export_single_step(predict_step, str(base / "1"), 10, dynamic_batch=True, smaller_batches=())
    return base


@contextmanager
def serve(model: Path, *flags: str) -> Iterator[ModelServer]:
    with ModelServer(f"--model_base_path={model}", "--model_name=m", WAIT, *flags) as server:
        yield server


def rows(count: int) -> list[list[float]]:
    return [[float(row)] for row in range(count)]


def doubled(count: int) -> tuple[int, Any]:
    return 200, {"predictions": [[2.0 * row] for row in range(count)]}


def engine(server: ModelServer) -> dict[str, Any]:
    return request(f"{server.rest}/v1/models/m/stats")[1]["engines"][0]


def wait_for_queue(server: ModelServer, calls: int) -> None:
    wait_until(lambda: engine(server)["queued"] == calls, f"{calls} calls in the queue")


def grpc_predict(connection: grpc.Channel, count: int, priority: str = "") -> grpc.Future:
    call = predict_pb2.PredictRequest()
    call.model_spec.name = "m"
    call.inputs["x"].CopyFrom(tf.make_tensor_proto(rows(count)))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connection)
    return stub.Predict.future(call, metadata=[("x-priority", priority)] if priority else None)


def rest_predict(server: ModelServer, count: int, priority: str) -> tuple[int, Any]:
    body = json.dumps({"instances": rows(count)}).encode()
    asked = urllib.request.Request(f"{server.rest}/v1/models/m:predict", body, {"X-Priority": priority})
    try:
        with urllib.request.urlopen(asked, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_call_more_than_the_queue_holds_is_refused(model: Path) -> None:
    with serve(model, "--ipu_max_queued_calls=2") as server, channel(server) as connection:
        waiting = [grpc_predict(connection, 1) for _ in range(2)]
        wait_for_queue(server, 2)
        with pytest.raises(grpc.RpcError) as refused:
            grpc_predict(connection, 1).result(60)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "is full: 2 calls wait" in refused.value.details()
        with pytest.raises(urllib.error.HTTPError) as answered:
            urllib.request.urlopen(
                f"{server.rest}/v1/models/m:predict", json.dumps({"instances": rows(1)}).encode(), 60
            )
        assert answered.value.code == 503
        assert answered.value.headers["Retry-After"] == "1"
        assert "is full: 2 calls wait" in json.load(answered.value)["error"]
        # A client that gives up makes room, and costs the device nothing.
        waiting[0].cancel()
        wait_for_queue(server, 1)
        assert predict(server.rest, "m", rows(3)) == doubled(3)
        waiting[1].result(60)
        counts = engine(server)
        assert (counts["rejected"], counts["cancelled"], counts["calls"], counts["steps"]) == (2, 1, 2, 1)


def test_calls_that_fail_are_not_logged(model: Path) -> None:
    flags = (f"--model_base_path={model}", "--model_name=m", WAIT, "--ipu_max_queued_calls=1")
    with ModelServer(*flags, tensorflow_log=False) as server, channel(server) as connection:
        waiting = grpc_predict(connection, 1)
        wait_for_queue(server, 1)
        with pytest.raises(grpc.RpcError):
            grpc_predict(connection, 1).result(60)
        waiting.cancel()
        server.stop()
        assert [line for line in server.log().splitlines() if " I " not in line] == []


def test_an_expired_call_costs_no_device_time(model: Path) -> None:
    with serve(model, "--rest_api_timeout_in_ms=50") as server:
        status, answer = predict(server.rest, "m", rows(1))
        assert status == 504, answer
        wait_until(lambda: engine(server)["expired"] + engine(server)["cancelled"] == 1, "the call's end")
        assert engine(server)["steps"] == 0


def test_a_client_that_closes_its_connection_gives_up_its_call(model: Path) -> None:
    with serve(model) as server:
        with pytest.raises(OSError):
            urllib.request.urlopen(
                f"{server.rest}/v1/models/m:predict", json.dumps({"instances": rows(1)}).encode(), 0.2
            )
        wait_until(lambda: engine(server)["cancelled"] == 1, "the call's end")
        assert engine(server)["steps"] == 0


@pytest.mark.parametrize("transport", ["rest", "grpc"])
@pytest.mark.parametrize("priority", ["high", "normal"])
def test_high_priority_goes_first(model: Path, transport: str, priority: str) -> None:
    with serve(model) as server, channel(server) as connection, ThreadPoolExecutor() as threads:
        first = grpc_predict(connection, 3)
        wait_for_queue(server, 1)
        # Five rows are more than a step takes: one row of one of the calls is left.
        second = (
            threads.submit(rest_predict, server, 2, priority)
            if transport == "rest"
            else grpc_predict(connection, 2, priority)
        )
        wait_until(lambda: engine(server)["steps"] == 1, "a step")
        answered, waits = (second, first) if priority == "high" else (first, second)
        answered.result(60)
        assert not waits.done()
        assert engine(server)["calls"] == 1
        assert predict(server.rest, "m", rows(3)) == doubled(3)
        waits.result(60)
        if transport == "rest":
            assert second.result() == doubled(2)


def test_an_unknown_priority_is_refused(model: Path) -> None:
    with serve(model) as server, channel(server) as connection:
        status, answer = rest_predict(server, 4, "urgent")
        assert status == 400 and "urgent" in answer["error"]
        with pytest.raises(grpc.RpcError) as refused:
            grpc_predict(connection, 4, "urgent").result(60)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
