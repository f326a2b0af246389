"""What an engine did, as `GET .../stats` and as Prometheus metrics."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import tensorflow as tf
from model_server import ModelServer, channel
from served_models import predict, write_batch_size
from tensorflow_ipu import serving
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.read().decode()


def test_rows_and_padding_are_counted(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec([4, 2], tf.float32, name="x")])
    def predict_step(x: tf.Tensor) -> tf.Tensor:
        return x * 2

    serving.export_single_step(
        predict_step, str(tmp_path / "m" / "1"), 10, dynamic_batch=True, smaller_batches=[2]
    )
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with ModelServer(
        f"--model_base_path={tmp_path / 'm'}", "--model_name=m", f"--monitoring_config_file={monitoring}"
    ) as server:
        # One row is padded to two; five rows take two steps, one of them as well.
        for rows in (1, 5):
            values = [[float(row), 1.0] for row in range(rows)]
            assert predict(server.rest, "m", values) == (
                200,
                {"predictions": [[2 * x, 2 * y] for x, y in values]},
            )
        answer = json.loads(get(f"{server.rest}/v1/models/m/stats"))
        assert answer["model_spec"] == {"name": "m", "version": "1"}
        (engine,) = answer["engines"]
        assert (engine["calls"], engine["steps"], engine["rows"], engine["padded_rows"]) == (2, 3, 6, 2)
        assert engine["fill_percent"]["count"] == 3
        # The one row is half of the two that were computed for it, and so is the fifth.
        assert [count for _, count in engine["fill_percent"]["histogram"]] == [2, 1]
        assert engine["fill_percent"]["histogram"][-1][0] == engine["fill_percent"]["max"] == 100
        assert engine["call_time_us"]["count"] == 2
        (signature,) = answer["signatures"]
        assert (signature["signature"], signature["engines"]) == ("serving_default", [engine["engine"]])
        assert (signature["calls"], signature["failed"]) == (2, 0)
        assert signature["call_time_us"]["count"] == 2
        assert "batching" not in signature
        assert engine == json.loads(get(f"{server.rest}/v1/models/m/versions/1/stats"))["engines"][0]
        page = get(f"{server.rest}/monitoring/prometheus/metrics")
        assert f'rows_count{{model_name="m",version="1",engine="{engine["engine"]}"}} 6\n' in page
        labels = '{model_name="m",version="1",signature="serving_default"}'
        assert f":tensorflow_ipu:signature:calls_count{labels} 2\n" in page
        with pytest.raises(urllib.error.HTTPError) as missing:
            get(f"{server.rest}/v1/models/none/stats")
        assert missing.value.code == 404


def test_signatures_of_ordinary_models_are_counted(tmp_path: Path) -> None:
    write_batch_size(tmp_path / "m", 1)
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    batching = tmp_path / "batching.config"
    batching.write_text("max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 8")
    with ModelServer(
        f"--model_base_path={tmp_path / 'm'}",
        "--model_name=m",
        f"--monitoring_config_file={monitoring}",
        "--enable_batching",
        f"--batching_parameters_file={batching}",
        "--enforce_signature_shapes",  # for a call that fails
    ) as server:
        assert predict(server.rest, "m", [1.0, 2.0, 3.0]) == (200, {"predictions": [4, 4, 4]})
        assert predict(server.rest, "m", [[1.0]])[0] == 400
        with channel(server) as connection:
            call = predict_pb2.PredictRequest()
            call.model_spec.name = "m"
            call.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
            prediction_service_pb2_grpc.PredictionServiceStub(connection).Predict(call, timeout=60)
        answer = json.loads(get(f"{server.rest}/v1/models/m/stats"))
        assert answer["engines"] == []
        (signature,) = answer["signatures"]
        assert (signature["calls"], signature["failed"], signature["engines"]) == (2, 1, [])
        batched = signature["batching"]
        assert (batched["batches"], batched["rows"], batched["padded_rows"]) == (2, 4, 4)
        assert batched["batch_rows"]["histogram"] == [[1, 1], [3, 1]]
        page = get(f"{server.rest}/monitoring/prometheus/metrics")
        labels = '{model_name="m",version="1",signature="serving_default"}'
        assert f":tensorflow_ipu:signature:failed_count{labels} 1\n" in page
        assert f":tensorflow_ipu:signature:batches_count{labels} 2\n" in page
        assert ":tensorflow:serving:batching_session:wrapped_run_count{} 2\n" in page
        assert "# TYPE :tensorflow:serving:batching_session:queuing_latency histogram\n" in page
