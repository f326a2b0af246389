"""Calls the server that `demo.sh` started: over REST with curl, over gRPC with the stubs users have."""

import json
import subprocess
import sys
import time
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


def ports_of(file: Path) -> dict[str, int]:
    """The ports that the server writes to `file` once it listens."""
    for _ in range(600):
        if file.exists():
            return json.loads(file.read_text())
        time.sleep(0.05)
    sys.exit(f"the server did not write {file}")


def wait_until_available(channel: grpc.Channel, model: str) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    for _ in range(600):
        try:
            versions = stub.GetModelStatus(request).model_version_status
            if any(v.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE for v in versions):
                return
        except grpc.RpcError:
            pass
        time.sleep(0.05)
    sys.exit(f"{model} did not become available")


def curl(url: str, body: str) -> dict:
    print(f"$ curl -d '{body}' -X POST {url}")
    answer = subprocess.run(
        ["curl", "-sS", "-d", body, "-X", "POST", url], check=True, capture_output=True, text=True
    ).stdout
    print(answer)
    return json.loads(answer)


def main() -> None:
    ports = ports_of(Path(sys.argv[1]))
    channel = grpc.insecure_channel(f"localhost:{ports['grpc']}", [("grpc.enable_http_proxy", 0)])
    for model in ("my_model", "words"):
        wait_until_available(channel, model)
    rest = f"http://localhost:{ports['rest']}/v1/models"

    print("\n4. REST")
    answer = curl(f"{rest}/my_model:predict", '{"instances": [1.0, 2.0, 5.0, 7.0]}')
    assert answer == {"predictions": [2.0, 4.0, 10.0, 14.0]}, answer
    answer = curl(f"{rest}/words:predict", json.dumps({"instances": ["graphcore"] * 6}))
    assert answer == {"predictions": [2.0] * 6}, answer

    print("\n5. gRPC")
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "my_model"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 5.0, 7.0]))
    response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    values = tf.make_ndarray(response.outputs["output_0"])
    print(f"Predict(x=[1, 2, 5, 7]) = {values}")
    assert values.tolist() == [2.0, 4.0, 10.0, 14.0], values


if __name__ == "__main__":
    main()
