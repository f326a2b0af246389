"""What a slow model does to everything else on the server.

    python benchmarks/slow_beside_fast.py --load=build/benchmarks/grpc_load [SERVER]

Latencies of a fast model, of model status and metadata over REST, and of the health check over gRPC, asked
200 times a second: alone, and beside 32 calls in flight of a model that takes 50 ms. The slow model is of two
kinds: `waiting` holds its callers without computing (an exported model whose rows wait for company),
`computing` keeps a core busy for 50 ms of each call, so that 32 calls want far more than the machine has.
Prints p50 and p99 in microseconds, and the ratios to those alone; the clients
wait for a core, too.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from predict_request import write_predict_request
from running_server import Server

SLOW_MS = 50
RATE = 200
IN_FLIGHT = 32


def write_models(folder: Path) -> Path:
    """`fast`, `waiting` and `computing`, and the config that serves them."""
    import tensorflow as tf
    from tensorflow_ipu import serving

    class Fast(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x * 0.5 + 2.0}

    class Computing(tf.Module):
        def __init__(self, products: int) -> None:
            super().__init__()
            self.weight = tf.Variable(tf.eye(256))
            self.products = products

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            value = tf.zeros([256, 256]) + x[0]
            for _ in tf.range(self.products):
                value = tf.matmul(value, self.weight)
            return {"y": x + value[0, :1]}

    tf.config.threading.set_intra_op_parallelism_threads(1)
    probe = Computing(100)
    probe.serve(tf.zeros([1]))
    started = time.monotonic()
    probe.serve(tf.zeros([1]))
    computing = Computing(max(1, round(100 * SLOW_MS / 1000 / (time.monotonic() - started))))
    for name, module in (("fast", Fast()), ("computing", computing)):
        tf.saved_model.save(module, str(folder / name / "1"), signatures={"serving_default": module.serve})

    # More rows than are ever in flight: a step begins only when a row has waited long enough.
    @tf.function(input_signature=[tf.TensorSpec([1024, 1], tf.float32, name="x")])
    def double(x: tf.Tensor) -> tf.Tensor:
        return x * 2

    serving.export_single_step(double, str(folder / "waiting" / "1"), 1, dynamic_batch=True)
    config = folder / "models.config"
    models = "".join(
        f' config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}'
        for name in ("fast", "waiting", "computing")
    )
    config.write_text(f"model_config_list {{{models} }}")
    return config


def write_requests(folder: Path) -> None:
    for name, value in (("fast", [1.0]), ("waiting", [[1.0]]), ("computing", [1.0])):
        write_predict_request(folder / f"{name}.bin", name, value)
    (folder / "health.bin").write_bytes(b"")


def load_command(load: str, server: Server, request: Path, seconds: float, *more: str) -> list[str]:
    return [load, f"--port={server.grpc_port}", f"--request={request}", f"--seconds={seconds}", *more]


def grpc_latency(command: list[str]) -> tuple[float, float]:
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout or json.loads(done.stdout)["errors"]:
        sys.exit(f"grpc_load failed: {done.stdout} {done.stderr}")
    got = json.loads(done.stdout)
    return got["p50_us"], got["p99_us"]


def rest_latency(server: Server, path: str, seconds: float) -> tuple[float, float]:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    latencies = []
    for _ in range(round(seconds * RATE)):
        time.sleep(1 / RATE)
        asked = time.monotonic()
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        latencies.append((time.monotonic() - asked) * 1e6)
        if response.status != 200:
            sys.exit(f"{path}: status {response.status}")
    latencies.sort()
    return latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("server", nargs="?", default="tensorflow_model_server")
    parser.add_argument("--load", required=True, help="the grpc_load program")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one figure")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = write_models(folder)
        write_requests(folder)
        wait = f"--ipu_max_wait_us={SLOW_MS * 1000}"
        server = Server(options.server, config, [wait], ["fast", "waiting", "computing"])
        rate = f"--rate={RATE}"
        health = "--path=/grpc.health.v1.Health/Check"
        asked = {
            "fast model, gRPC": lambda: grpc_latency(
                load_command(options.load, server, folder / "fast.bin", options.seconds, rate)
            ),
            "health, gRPC": lambda: grpc_latency(
                load_command(options.load, server, folder / "health.bin", options.seconds, rate, health)
            ),
            "status, REST": lambda: rest_latency(server, "/v1/models/fast", options.seconds),
            "metadata, REST": lambda: rest_latency(server, "/v1/models/fast/metadata", options.seconds),
        }
        try:
            alone = {name: ask() for name, ask in asked.items()}
            for name, (p50, p99) in alone.items():
                print(f"alone: {name}: p50 {p50:.0f} us, p99 {p99:.0f} us")
            for slow in ("waiting", "computing"):
                seconds = (options.seconds + 1) * len(asked) + 2
                flight = (f"--in_flight={IN_FLIGHT}", "--connections=4")
                beside = subprocess.Popen(
                    load_command(options.load, server, folder / f"{slow}.bin", seconds, *flight),
                    stdout=subprocess.PIPE,
                    text=True,
                )
                time.sleep(1)
                for name, ask in asked.items():
                    p50, p99 = ask()
                    ratios = f"x{p50 / alone[name][0]:.1f}, x{p99 / alone[name][1]:.1f}"
                    print(f"beside {slow}: {name}: p50 {p50:.0f} us, p99 {p99:.0f} us = {ratios}", flush=True)
                got = json.loads(beside.communicate()[0])
                print(f"beside {slow}: that model itself: {got['rps']}/s, p50 {got['p50_us'] / 1000:.0f} ms")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
