"""What the server adds to a call of a device when nothing else goes on.

    python benchmarks/low_load.py --load=build/benchmarks/grpc_load [SERVER]

One client calls, one call after the other, an exported network 784-512-512-10 that is compiled for one row;
the same network exported with row batching for 32 rows; and an ordinary model that returns the first ten
numbers of the same input, which is what transport costs. They take turns, and each one's best p50 counts, as
cores that doze off between calls add to some. Device time is the engines' own p50. Prints microseconds, and
what is left of a call when device and transport are taken away.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from arrival_rates import mlp
from predict_request import write_predict_request
from running_server import Server

MODELS = ("transport", "one row", "row batching")
ROUNDS = 8


def write_models(folder: Path) -> Path:
    import tensorflow as tf
    from tensorflow_ipu import serving

    class Transport(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 784], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x[:, :10]}

    module = Transport()
    tf.saved_model.save(module, str(folder / "transport" / "1"), signatures={"serving_default": module.serve})
    network = mlp().function
    for name, batch in (("one row", 1), ("row batching", 32)):
        spec = tf.TensorSpec([batch, 784], tf.float32, name="x")
        serving.export_single_step(
            network, str(folder / name / "1"), 16, [spec], dynamic_batch=batch > 1, progress=False
        )
    config = folder / "models.config"
    models = "".join(
        f' config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}'
        for name in MODELS
    )
    config.write_text(f"model_config_list {{{models} }}")
    return config


def device_time(server: Server, model: str) -> float:
    body = server.get(f"/v1/models/{model.replace(' ', '%20')}/stats").partition(b"\r\n\r\n")[2]
    engines = json.loads(body)["engines"]
    return engines[0]["device_time_us"]["p50"] if engines else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("server", nargs="?", default="tensorflow_model_server")
    parser.add_argument("--load", required=True, help="the grpc_load program")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # The names hold a space, which a path of the REST API has as %20.
        server = Server(options.server, write_models(folder), [], ["transport"])
        try:
            p50: dict[str, float] = {}
            for _ in range(ROUNDS):
                for model in MODELS:
                    request = folder / "request"
                    write_predict_request(request, model, [[0.5] * 784])
                    command = [options.load, f"--port={server.grpc_port}", f"--request={request}"]
                    done = subprocess.run(
                        [*command, f"--seconds={options.seconds / ROUNDS}"], capture_output=True, text=True
                    )
                    if not done.stdout:
                        sys.exit(f"grpc_load failed: {done.stderr}")
                    p50[model] = min(p50.get(model, 1e9), json.loads(done.stdout)["p50_us"])
            print(f"transport: p50 {p50['transport']:.0f} us")
            for model in MODELS[1:]:
                device = device_time(server, model)
                left = p50[model] - device - p50["transport"]
                print(f"{model}: p50 {p50[model]:.0f} us, of which device {device:.0f}, left {left:.0f}")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
