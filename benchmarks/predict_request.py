"""The request files that `grpc_load` sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_predict_request(path: Path, model: str, x: Any) -> None:
    """A serialised PredictRequest with the input "x"."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    path.write_bytes(request.SerializeToString())
