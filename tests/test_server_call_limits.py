"""How many requests run, and how many wait, as flags say."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from model_server import ModelServer, channel, threads
from served_models import Gate, predict, request, wait_until
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

ANSWER = (200, {"predictions": [1.5]})


@contextmanager
def gated(base: Path, *flags: str) -> Iterator[tuple[Gate, ModelServer]]:
    """A server whose calls stay in the model until they are let go."""
    gate = Gate(base, 1)
    with ModelServer(f"--model_base_path={base}", "--model_name=gate", *flags) as server:
        try:
            yield gate, server
        finally:
            with gate.open():
                server.stop()


def grpc_call(connection: grpc.Channel) -> grpc.Future:
    call = predict_pb2.PredictRequest()
    call.model_spec.name = "gate"
    call.inputs["x"].CopyFrom(tf.make_tensor_proto([1.5]))
    return prediction_service_pb2_grpc.PredictionServiceStub(connection).Predict.future(call, timeout=60)


def test_grpc_calls_run_on_as_many_threads_and_the_rest_waits(tmp_path: Path) -> None:
    with (
        gated(tmp_path, "--grpc_max_threads=1", "--max_queued_calls=1") as (gate, server),
        channel(server) as connection,
    ):
        first = grpc_call(connection)
        gate.wait_for_call()
        # One of these waits for the thread, and the other finds the only place taken.
        others = [grpc_call(connection) for _ in range(2)]
        wait_until(lambda: any(call.done() for call in others), "a refused call")
        (refused,) = [call for call in others if call.done()]
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1 calls run and 1 wait" in refused.details()
        gate.release_call()
        assert list(first.result(60).outputs["y"].float_val) == [1.5]
        # The thread is free: the call that waited is in the model.
        gate.wait_for_call()
        gate.release_call()
        (waited,) = [call for call in others if call is not refused]
        assert list(waited.result(60).outputs["y"].float_val) == [1.5]


def test_rest_calls_run_on_as_many_threads_and_the_rest_waits(tmp_path: Path) -> None:
    with (
        gated(tmp_path, "--rest_api_num_threads=1", "--max_queued_calls=1") as (gate, server),
        ThreadPoolExecutor() as clients,
    ):
        first = clients.submit(predict, server.rest, "gate", [1.5])
        gate.wait_for_call()
        others = {clients.submit(predict, server.rest, "gate", [1.5]) for _ in range(2)}
        (refused,), (waiting,) = wait(others, 60, FIRST_COMPLETED)
        status, answer = refused.result()
        assert status == 503 and "1 calls run and 1 wait" in answer["error"]
        # What is short needs no thread of these.
        assert request(f"{server.rest}/v1/models/gate")[0] == 200
        gate.release_call()
        assert first.result(60) == ANSWER
        gate.wait_for_call()
        gate.release_call()
        assert waiting.result(60) == ANSWER


def test_calls_that_wait_without_computing_give_their_slots_away(tmp_path: Path) -> None:
    with gated(tmp_path, "--compute_slots=1") as (gate, server), channel(server) as connection:
        calls = [grpc_call(connection) for _ in range(5)]
        # All are inside at once, although one alone could compute. One look at the pipe may tell of several.
        inside = 0
        while inside < len(calls):
            inside += (tmp_path / "entered-1").read_text().count("entered")
        assert not any(call.done() for call in calls)
        with gate.open():
            for call in calls:
                assert list(call.result(60).outputs["y"].float_val) == [1.5]


def test_grpc_calls_in_flight_are_bounded(tmp_path: Path) -> None:
    with (
        gated(tmp_path, "--grpc_max_calls=2") as (gate, server),
        channel(server) as connection,
    ):
        calls = [grpc_call(connection) for _ in range(3)]
        wait_until(lambda: any(call.done() for call in calls), "a refused call")
        (refused,) = [call for call in calls if call.done()]
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        with gate.open():
            for call in calls:
                if call is not refused:
                    assert list(call.result(60).outputs["y"].float_val) == [1.5]
            assert list(grpc_call(connection).result(60).outputs["y"].float_val) == [1.5]


@pytest.mark.parametrize("io_threads", [1, 4])
def test_rest_has_as_many_io_threads(tmp_path: Path, io_threads: int) -> None:
    def all_threads(count: int) -> int:
        flags = [f"--model_base_path={tmp_path}", "--port=0", f"--rest_api_num_io_threads={count}"]
        with ModelServer(*flags) as server:
            assert request(f"{server.rest}/v1/models/default")[0] == 404
            return threads(server, "tensorflow_mode")  # those that have the program's name

    assert all_threads(io_threads) - all_threads(2) == io_threads - 2
