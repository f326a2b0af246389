"""Batching of ordinary models: every field of BatchingParameters, and the files that hold them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from model_server import ModelServer, channel
from served_models import Gate, predict, states, wait_until, write_batch_size
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

HOUR = "batch_timeout_micros { value: 3600000000 }"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that returns for each row how many rows were run with it."""
    folder = tmp_path_factory.mktemp("rows")
    write_batch_size(folder, 1)
    return folder


def serve(base: Path, folder: Path, parameters: str, *flags: str) -> ModelServer:
    file = folder / "batching.config"
    file.write_text(parameters)
    return ModelServer(
        f"--model_base_path={base}",
        "--model_name=m",
        "--enable_batching",
        f"--batching_parameters_file={file}",
        *flags,
    )


def call(connection: grpc.Channel, x: Any) -> grpc.Future:
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "m"
    message.inputs["x"].CopyFrom(tf.make_tensor_proto(np.asarray(x, np.float32)))
    return prediction_service_pb2_grpc.PredictionServiceStub(connection).Predict.future(message, timeout=60)


def rows_run_together(server: ModelServer, clients: int) -> list[int]:
    """What as many concurrent calls of one row each say of their batches."""
    with channel(server) as connection:
        calls = [call(connection, [0.0]) for _ in range(clients)]
        return [int(tf.make_ndarray(one.result().outputs["rows"])[0]) for one in calls]


def test_batches_form_within_the_timeout(base: Path, tmp_path: Path) -> None:
    with serve(base, tmp_path, f"max_batch_size {{ value: 4 }} {HOUR}") as server:
        assert rows_run_together(server, 8) == [4] * 8
        status, answer = predict(server.rest, "m", [0.0] * 5)
        assert status == 400
        assert "Task size 5 is larger than maximum input batch size 4" in answer["error"]
    # After the timeout, a batch need not be full. Nothing depends on the name.
    short = (
        "max_batch_size { value: 4 } batch_timeout_micros { value: 1000 } thread_pool_name { value: 'any' }"
    )
    with serve(base, tmp_path, short) as server:
        assert predict(server.rest, "m", [0.0]) == (200, {"predictions": [1]})


def test_batching_has_defaults(base: Path) -> None:
    with ModelServer(f"--model_base_path={base}", "--model_name=m", "--enable_batching") as server:
        assert predict(server.rest, "m", [0.0] * 1000) == (200, {"predictions": [1000] * 1000})
        assert predict(server.rest, "m", [0.0] * 1001)[0] == 400


@pytest.mark.parametrize("batch_threads", [1, 2])
def test_batches_run_at_the_same_time_and_wait_within_bounds(tmp_path: Path, batch_threads: int) -> None:
    gate = Gate(tmp_path / "m", 1)
    parameters = (
        f"max_batch_size {{ value: 2 }} {HOUR} num_batch_threads {{ value: {batch_threads} }}"
        " max_enqueued_batches { value: 1 }"
    )
    with serve(tmp_path / "m", tmp_path, parameters) as server, channel(server) as connection:
        # Each call is a full batch.
        calls = []
        for _ in range(batch_threads):
            calls.append(call(connection, [1.0, 2.0]))
            gate.wait_for_call()
        # Of two more, one waits for a thread, and there is no room for the other.
        more = [call(connection, [1.0, 2.0]) for _ in range(2)]
        wait_until(lambda: any(one.done() for one in more), "a refused call")
        (refused,) = [one for one in more if one.done()]
        assert refused.code() == grpc.StatusCode.UNAVAILABLE
        assert "is full: 2 rows wait" in refused.details()
        with gate.open():
            for one in calls + more:
                if one is not refused:
                    assert list(one.result(60).outputs["y"].float_val) == [1.0, 2.0]


def test_batches_are_padded_to_allowed_sizes(base: Path, tmp_path: Path) -> None:
    sizes = "allowed_batch_sizes: 2 allowed_batch_sizes: 4 allowed_batch_sizes: 8"
    with serve(base, tmp_path, f"max_batch_size {{ value: 8 }} {sizes}") as server:
        for rows, run in ((1, 2), (2, 2), (3, 4), (5, 8), (8, 8)):
            assert predict(server.rest, "m", [0.0] * rows) == (200, {"predictions": [run] * rows})


def test_large_requests_are_run_in_parts_when_told_to(base: Path, tmp_path: Path) -> None:
    split = "enable_large_batch_splitting { value: true }"
    with serve(base, tmp_path, f"max_batch_size {{ value: 2 }} {split}") as server:
        assert predict(server.rest, "m", [0.0] * 5) == (200, {"predictions": [2, 2, 2, 2, 1]})
    smaller = f"max_batch_size {{ value: 8 }} max_execution_batch_size {{ value: 3 }} {split}"
    with serve(base, tmp_path, smaller) as server:
        assert predict(server.rest, "m", [0.0] * 7) == (200, {"predictions": [3, 3, 3, 3, 3, 3, 1]})


@pytest.mark.parametrize("padded", [False, True])
def test_rows_of_different_lengths_are_joined_only_when_padded(tmp_path: Path, padded: bool) -> None:
    class RowShape(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = tf.shape(x)[0]
            return {
                "shape": tf.tile(tf.expand_dims(tf.shape(x), 0), [rows, 1]),
                "sum": tf.reduce_sum(x, axis=1),
            }

    module = RowShape()
    tf.saved_model.save(module, str(tmp_path / "m" / "1"), signatures={"serving_default": module.serve})
    parameters = (
        f"max_batch_size {{ value: 2 }} {HOUR} pad_variable_length_inputs: {'true' if padded else 'false'}"
    )
    with serve(tmp_path / "m", tmp_path, parameters) as server, channel(server) as connection:
        calls = [call(connection, [[1.0] * width]) for width in ((1, 3) if padded else (1, 3, 3, 1))]
        answers = [one.result(60).outputs for one in calls]
        shapes = [tf.make_ndarray(answer["shape"])[0].tolist() for answer in answers]
        sums = [float(tf.make_ndarray(answer["sum"])[0]) for answer in answers]
    if padded:
        assert (shapes, sums) == ([[2, 3], [2, 3]], [1, 3])
    else:
        assert (shapes, sums) == ([[2, 1], [2, 3], [2, 3], [2, 1]], [1, 3, 3, 1])


def test_requests_that_would_be_filled_with_zeros_are_run_apart(tmp_path: Path) -> None:
    class Sizes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.int8, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"size": tf.fill([tf.shape(x)[0]], tf.size(x))}

    module = Sizes()
    tf.saved_model.save(module, str(tmp_path / "m" / "1"), signatures={"serving_default": module.serve})
    parameters = f"max_batch_size {{ value: 2 }} {HOUR} pad_variable_length_inputs: true"
    size = 100_000
    with serve(tmp_path / "m", tmp_path, parameters) as server, ThreadPoolExecutor() as clients:
        # Together they would be 20 GB.
        shapes = ([[[0]] * size], [[[0] * size]])
        answers = list(clients.map(lambda x: predict(server.rest, "m", x), shapes))
    assert answers == [(200, {"predictions": [size]})] * 2


def test_a_versions_own_parameters_count_when_told_to(tmp_path: Path) -> None:
    write_batch_size(tmp_path / "m", 1)
    own = tmp_path / "m" / "1" / "batching_params.pbtxt"
    own.write_text("max_batch_size { value: 2 }")
    common = f"max_batch_size {{ value: 4 }} {HOUR}"
    with serve(tmp_path / "m", tmp_path, common) as server:
        assert rows_run_together(server, 4) == [4] * 4
    with serve(tmp_path / "m", tmp_path, common, "--enable_per_model_batching_parameters") as server:
        assert rows_run_together(server, 4) == [2] * 4
    own.write_text("max_batch_size { value: 0 }")
    with serve(tmp_path / "m", tmp_path, common, "--enable_per_model_batching_parameters") as server:
        state, reason = states(server.rest, "m")[1]
        assert state == "END" and "max_batch_size: found 0, expected at least 1" in reason


def test_a_platform_config_may_hold_them(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "platform.config"
    file.write_text(
        'platform_configs { key: "tensorflow" value { source_adapter_config {'
        " [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] { legacy_config {"
        f" batching_parameters {{ max_batch_size {{ value: 2 }} {HOUR} }} }} }} }} }} }}"
    )
    flags = [f"--model_base_path={base}", "--model_name=m", f"--platform_config_file={file}"]
    with ModelServer(*flags) as server:
        assert rows_run_together(server, 2) == [2, 2]
    # It counts, and not the flag.
    with ModelServer(*flags, "--enable_batching") as server:
        assert rows_run_together(server, 2) == [2, 2]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ("max_batch: 2", "is no BatchingParameters"),
        ("max_batch_size { value: 0 }", "max_batch_size: found 0, expected at least 1"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros: found -1"),
        ("max_enqueued_batches { value: 0 }", "max_enqueued_batches: found 0"),
        ("num_batch_threads { value: 0 }", "num_batch_threads: found 0"),
        ("allowed_batch_sizes: 4 allowed_batch_sizes: 2", "increasing order"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "expected max_batch_size, 8"),
        ("max_batch_size { value: 8 } max_execution_batch_size { value: 9 }", "at most max_batch_size"),
    ],
)
def test_wrong_parameters_end_the_start_with_their_reason(
    base: Path, tmp_path: Path, parameters: str, reason: str
) -> None:
    with pytest.raises(RuntimeError, match=reason):
        serve(base, tmp_path, parameters)
