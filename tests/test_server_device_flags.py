"""Flags of the emulated IPUs; test_server_queue.py tests those of the queue before them."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from model_server import ModelServer, threads
from served_models import predict
from tensorflow_ipu import serving
from tensorflow_ipu.config import IPUConfig, reset_ipu_configuration

HOUR_US = 3_600_000_000


def flags(base: Path, *more: str) -> list[str]:
    return [f"--model_base_path={base}", "--model_name=m", *more]


def test_replicas_are_as_many_as_the_flag_says(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec([4, 1], tf.float32, name="x")])
    def double(x: tf.Tensor) -> tf.Tensor:
        return x * 2

    serving.export_single_step(double, str(tmp_path / "1"), 10, dynamic_batch=True)
    for replicas in (1, 3):
        with ModelServer(*flags(tmp_path, f"--ipu_replicas={replicas}")) as server:
            assert predict(server.rest, "m", [[1.0]]) == (200, {"predictions": [[2.0]]})
            # Each has a thread.
            running = [threads(server, f"ipu_engine/{replica}") for replica in range(replicas + 1)]
            assert running == [1] * replicas + [0]


def test_a_pipeline_that_waits_is_pushed_on_after_the_flags_time(tmp_path: Path) -> None:
    four = tf.TensorSpec([4], tf.float32, name="x")
    config = IPUConfig()
    config.auto_select_ipus = 2
    config.configure_ipu_system()
    try:
        serving.export_pipeline(
            [lambda x: x * 2, lambda x: x + 3],
            str(tmp_path / "1"),
            8,
            predict_step_signature=[four],
            timeout_us=HOUR_US,
        )
    finally:
        reset_ipu_configuration()
    # A call comes out when another goes in, or after the time. As exported, that would be an hour.
    with ModelServer(*flags(tmp_path, "--ipu_timeout_us=1000")) as server:
        assert predict(server.rest, "m", [1.0] * 4) == (200, {"predictions": [5.0] * 4})
