"""Which way calls of a model that uses a device go: straight to it, around it, or through a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from model_server import ModelServer, anonymous_memory, channel
from served_models import predict, request, wait_until
from tensorflow_ipu import serving
from tensorflow_ipu._runtime import ops
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

ROWS = tf.TensorSpec([2], tf.float32, name="x")


def doubled(x: tf.Tensor) -> tf.Tensor:
    return x * 2


def way(server: ModelServer, name: str = "m") -> str:
    (signature,) = request(f"{server.rest}/v1/models/{name}/stats")[1]["signatures"]
    return signature["way"]


def export(base: Path, **steps: Any) -> None:
    serving.export_single_step(doubled, str(base / "1"), 10, [ROWS], progress=False, **steps)


def before(s: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_number(s)


def after(y: tf.Tensor) -> tf.Tensor:
    return tf.strings.as_string(y, precision=1)


BEFORE = {
    "preprocessing_step": before,
    "preprocessing_step_signature": [tf.TensorSpec([2], tf.string, name="s")],
}
AFTER = {
    "postprocessing_step": after,
    "postprocessing_step_signature": [tf.TensorSpec([2], tf.float32, name="y")],
}


@pytest.mark.parametrize(
    ("steps", "expected", "rows", "answer"),
    [
        ({}, "direct", [1.5, 2.0], [3.0, 4.0]),
        (BEFORE, "split", ["1.5", "2"], [3.0, 4.0]),
        (AFTER, "split", [1.5, 2.0], ["3.0", "4.0"]),
        ({**BEFORE, **AFTER}, "split", ["1.5", "2"], ["3.0", "4.0"]),
    ],
    ids=["alone", "before", "after", "both"],
)
def test_own_exports_need_no_session_around_the_device(
    tmp_path: Path, steps: dict[str, Any], expected: str, rows: list[Any], answer: list[Any]
) -> None:
    export(tmp_path, **steps)
    with ModelServer(f"--model_base_path={tmp_path}", "--model_name=m") as server:
        assert way(server) == expected
        for _ in range(20):
            assert predict(server.rest, "m", rows) == (200, {"predictions": answer})
        if "preprocessing_step" in steps:
            status, body = predict(server.rest, "m", ["1", "no number"])
            assert status == 400 and "no number" in body["error"]
            assert predict(server.rest, "m", rows) == (200, {"predictions": answer})


def save_foreign(
    base: Path, exported: Path, call: Callable[[Callable[[tf.Tensor], tf.Tensor], tf.Tensor], Any]
) -> None:
    """A model of which `call` makes the graph around calls of an exported executable."""
    executable = next((exported / "1" / "assets").glob("*.ipu"))
    module = tf.Module()
    module.asset = tf.saved_model.Asset(str(executable))

    def device(x: tf.Tensor) -> tf.Tensor:
        anchor = ops.application_runtime(
            inputs=[], filename=module.asset.asset_path, engine_name="foreign", timeout_us=-1
        )
        (y,) = ops.application_call(
            infeeds=[x], anchor=anchor, outfeed_types=[tf.float32], engine_name="foreign"
        )
        y.set_shape([2])
        return y

    @tf.function(input_signature=[ROWS])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": call(device, x)}

    tf.saved_model.save(
        module, str(base / "1"), signatures={"serving_default": serve.get_concrete_function()}
    )


@pytest.mark.parametrize(
    ("call", "expected", "answer"),
    [
        (lambda device, x: device(x), "direct", [3.0, 4.0]),
        (lambda device, x: device(x + 1) + x, "split", [6.5, 8.0]),
        (lambda device, x: device(device(x)), "session: two device calls", [6.0, 8.0]),
        (
            lambda device, x: tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, device(y)), [0, x])[1],
            "session: a device call inside of While",
            [12.0, 16.0],
        ),
        (
            lambda device, x: device(x) + tf.random.uniform([2], 0, 1e-9),
            "session: RandomUniform has side effects",
            [3.0, 4.0],
        ),
    ],
    ids=["alone", "around", "two calls", "loop", "random"],
)
def test_foreign_graphs_give_the_same_answers_whatever_their_way(
    tmp_path: Path, call: Any, expected: str, answer: list[float]
) -> None:
    export(tmp_path / "own")
    save_foreign(tmp_path / "foreign", tmp_path / "own", call)
    with ModelServer(f"--model_base_path={tmp_path / 'foreign'}", "--model_name=m") as server:
        assert way(server) == expected
        for _ in range(5):
            status, body = predict(server.rest, "m", [1.5, 2.0])
            assert status == 200, body
            np.testing.assert_allclose(body["predictions"], answer, rtol=1e-6)


def test_ordinary_models_say_so(tmp_path: Path) -> None:
    module = tf.Module()
    module.serve = tf.function(lambda x: {"y": x * 2}, input_signature=[ROWS])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    with ModelServer(f"--model_base_path={tmp_path}", "--model_name=m") as server:
        assert way(server) == "session: no device call"


CALLS = 10_000
STREAMS = "--grpc_channel_arguments=grpc.max_concurrent_streams=20000"


def test_thousands_of_calls_wait_for_a_device_without_threads(tmp_path: Path) -> None:
    """Each of them waits for company; the last one completes the batch."""

    @tf.function(input_signature=[tf.TensorSpec([CALLS, 1], tf.float32, name="x")])
    def step(x: tf.Tensor) -> tf.Tensor:
        return x * 2

    serving.export_single_step(
        step, str(tmp_path / "1"), 1, dynamic_batch=True, smaller_batches=(), progress=False
    )

    def message(value: float) -> predict_pb2.PredictRequest:
        call = predict_pb2.PredictRequest()
        call.model_spec.name = "m"
        call.inputs["x"].CopyFrom(tf.make_tensor_proto([[value]], tf.float32))
        return call

    flags = ("--ipu_max_wait_us=3600000000", "--max_queued_calls=10", "--shutdown_grace_seconds=1", STREAMS)
    with (
        ModelServer(f"--model_base_path={tmp_path}", "--model_name=m", *flags) as server,
        channel(server) as connection,
    ):
        predict_one = prediction_service_pb2_grpc.PredictionServiceStub(connection).Predict

        def queued() -> int:
            return request(f"{server.rest}/v1/models/m/stats")[1]["engines"][0]["queued"]

        def threads() -> int:
            return len(list(Path(f"/proc/{server.pid}/task").iterdir()))

        first = predict_one.future(message(0.0), timeout=300)
        wait_until(lambda: queued() == 1, "a call in the queue")
        before_all, memory = threads(), anonymous_memory(server)
        waiting = [first] + [predict_one.future(message(float(i)), timeout=300) for i in range(1, CALLS - 1)]
        wait_until(lambda: queued() == CALLS - 1, "all calls in the queue")
        assert threads() <= before_all + 2
        # Its tensors, its stream and some 2 KiB.
        assert anonymous_memory(server) - memory < 3 * CALLS
        last = predict_one.future(message(float(CALLS - 1)), timeout=300)
        for i, call in enumerate([*waiting, last]):
            assert list(call.result(300).outputs["output_0"].float_val) == [2.0 * i]

        # The end of the server answers those that wait for what will not come.
        left = [predict_one.future(message(float(i)), timeout=300) for i in range(1000)]
        wait_until(lambda: queued() == 1000, "calls in the queue")
    assert all(call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) for call in left)
