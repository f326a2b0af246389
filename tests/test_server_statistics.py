"""What an engine did, as `GET .../stats` and as Prometheus metrics."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import tensorflow as tf
from model_server import ModelServer
from served_models import predict
from tensorflow_ipu import serving


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.read().decode()


def test_rows_and_padding_are_counted(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec([4, 2], tf.float32, name="x")])
    def predict_step(x: tf.Tensor) -> tf.Tensor:
        return x * 2

    serving.export_single_step(predict_step, str(tmp_path / "m" / "1"), 10, dynamic_batch=True)
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with ModelServer(
        f"--model_base_path={tmp_path / 'm'}", "--model_name=m", f"--monitoring_config_file={monitoring}"
    ) as server:
        # One row is padded to the compiled four; five rows take two steps.
        for rows in (1, 5):
            values = [[float(row), 1.0] for row in range(rows)]
            assert predict(server.rest, "m", values) == (
                200,
                {"predictions": [[2 * x, 2 * y] for x, y in values]},
            )
        answer = json.loads(get(f"{server.rest}/v1/models/m/stats"))
        assert answer["model_spec"] == {"name": "m", "version": "1"}
        (engine,) = answer["engines"]
        assert (engine["calls"], engine["steps"], engine["rows"], engine["padded_rows"]) == (2, 3, 6, 6)
        assert engine["fill_percent"]["count"] == 3
        assert engine["call_time_us"]["count"] == 2
        assert engine == json.loads(get(f"{server.rest}/v1/models/m/versions/1/stats"))["engines"][0]
        page = get(f"{server.rest}/monitoring/prometheus/metrics")
        assert f'rows_count{{model_name="m",version="1",engine="{engine["engine"]}"}} 6\n' in page
        with pytest.raises(urllib.error.HTTPError) as missing:
            get(f"{server.rest}/v1/models/none/stats")
        assert missing.value.code == 404
