"""Row batching over arrival rates, against one call a step and against TensorFlow with server batching.

    python benchmarks/arrival_rates.py --load=build/benchmarks/grpc_load [--model=mlp] [SERVER]

Calls of one row arrive over gRPC by a Poisson process whatever has been answered (open loop), and a call's
latency counts from when it was due. The systems, all in the same server and of the same weights:

  rows      an executable for a batch, exported with dynamic_batch: calls share steps
  rows 1 ms the same with --ipu_max_wait_us=1000: steps are full, or a millisecond late
  one       the same program without: each call takes a step of its own, its one row padded by the client
  plain     TensorFlow's session on the SavedModel without batching
  batched   the same with --enable_batching, and no waiting time
  1 ms      the same with a waiting time of a millisecond

The models are a network 784-512-512-10 with a batch of 32 (mlp), and a transformer of four layers of width
256 on 128 positions with a batch of 8 (transformer). Prints calls a second at saturation (a closed loop of
three batches of calls), and for shares of what row batching can do p50/p99 in microseconds and [CPU
microseconds a call]. `=` is the p50, or throughput, of the better kind of row batching against the best of
the three of TensorFlow's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predict_request import write_predict_request
from running_server import Server

SHARES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9)
ROWS = ("rows", "rows 1 ms")
TENSORFLOW = ("plain", "batched", "1 ms")
BATCHING = "max_batch_size {{ value: {batch} }} batch_timeout_micros {{ value: {timeout} }}"


@dataclass
class Model:
    """A function of batches of rows."""

    function: Callable[[Any], Any]
    row_shape: list[int]
    batch: int


def mlp() -> Model:
    import tensorflow as tf

    layers = [tf.Variable(tf.random.normal(s, stddev=0.05)) for s in ([784, 512], [512, 512], [512, 10])]

    def run(x: tf.Tensor) -> tf.Tensor:
        for layer in layers[:-1]:
            x = tf.nn.relu(tf.matmul(x, layer))
        return tf.matmul(x, layers[-1])

    return Model(run, [784], 32)


def transformer() -> Model:
    import tensorflow as tf

    width, heads, positions = 256, 4, 128

    def weights(*shape: int) -> tf.Variable:
        return tf.Variable(tf.random.normal(shape, stddev=0.05))

    layers = [
        [
            weights(width, 3 * width),
            weights(width, width),
            weights(width, 4 * width),
            weights(4 * width, width),
        ]
        for _ in range(4)
    ]

    def normal(x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-5)

    def run(x: tf.Tensor) -> tf.Tensor:
        for qkv, out, up, down in layers:
            parts = tf.split(tf.einsum("bpw,wv->bpv", normal(x), qkv), 3, -1)
            split = [tf.reshape(part, [-1, positions, heads, width // heads]) for part in parts]
            scores = tf.nn.softmax(
                tf.einsum("bphd,bqhd->bhpq", split[0], split[1]) * (width // heads) ** -0.5
            )
            mixed = tf.einsum("bhpq,bqhd->bphd", scores, split[2])
            x += tf.einsum("bpw,wv->bpv", tf.reshape(mixed, [-1, positions, width]), out)
            x += tf.einsum("bpw,wv->bpv", tf.nn.gelu(tf.einsum("bpw,wv->bpv", normal(x), up)), down)
        return tf.reduce_mean(x, 1)

    return Model(run, [positions, width], 8)


def write_models(model: Model, folder: Path) -> None:
    """`rows`, `one` and `plain`, each with a config file and a request of one call."""
    import numpy as np
    import tensorflow as tf
    from tensorflow_ipu import serving

    spec = tf.TensorSpec([model.batch, *model.row_shape], tf.float32, name="x")
    for name, dynamic in (("rows", True), ("one", False)):
        serving.export_single_step(
            model.function, str(folder / name / "1"), 16, [spec], dynamic_batch=dynamic, progress=False
        )
    module = tf.Module()
    module.model = model
    module.serve = tf.function(
        lambda x: {"y": model.function(x)},
        input_signature=[tf.TensorSpec([None, *model.row_shape], tf.float32, name="x")],
    )
    module.variables_of_function = list(module.serve.get_concrete_function().variables)
    tf.saved_model.save(module, str(folder / "plain" / "1"), signatures={"serving_default": module.serve})
    for name, rows in (("rows", 1), ("one", model.batch), ("plain", 1)):
        (folder / f"{name}.config").write_text(
            f'model_config_list {{ config {{ name: "m" base_path: "{folder / name}" '
            'model_platform: "tensorflow" } }'
        )
        values = np.random.default_rng(1).random([rows, *model.row_shape], np.float32)
        write_predict_request(folder / f"{name}.bin", "m", values)


def drive(load: str, server: Server, request: Path, seconds: float, *how: str) -> dict[str, float]:
    command = [
        load,
        f"--port={server.grpc_port}",
        f"--request={request}",
        f"--seconds={seconds}",
        f"--pid={server.process.pid}",
        "--connections=8",
        *how,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout or json.loads(done.stdout)["errors"]:
        sys.exit(f"grpc_load failed: {done.stdout} {done.stderr}")
    return json.loads(done.stdout)


def compare(name: str, model: Model, options: argparse.Namespace, folder: Path) -> None:
    write_models(model, folder)
    flags: dict[str, list[str]] = {
        "rows": [],
        "rows 1 ms": ["--ipu_max_wait_us=1000"],
        "one": [],
        "plain": [],
    }
    for system, timeout in (("batched", 0), ("1 ms", 1000)):
        parameters = folder / f"batching-{timeout}"
        parameters.write_text(BATCHING.format(batch=model.batch, timeout=timeout))
        flags[system] = ["--enable_batching", f"--batching_parameters_file={parameters}"]
    kind = {system: "rows" if system in ROWS else "one" if system == "one" else "plain" for system in flags}
    servers = {
        system: Server(options.server, folder / f"{kind[system]}.config", flags[system], ["m"])
        for system in flags
    }
    try:
        most = {}
        for system, server in servers.items():
            request = folder / f"{kind[system]}.bin"
            drive(options.load, server, request, options.seconds / 4, "--in_flight=8")
            most[system] = drive(
                options.load, server, request, options.seconds, f"--in_flight={3 * model.batch}"
            )["rps"]
        best = max(most[system] for system in TENSORFLOW)
        own = max(most[system] for system in ROWS)
        print(f"{name}, calls a second at saturation: ", end="")
        print(", ".join(f"{system} {rate:.0f}" for system, rate in most.items()), end=" ")
        print(f"= x{own / best:.2f}; row batching against one call a step x{own / most['one']:.1f}")
        for share in SHARES:
            rate = share * own
            print(f"{name}, {rate:.0f} calls a second:", end="", flush=True)
            p50 = {}
            for system, server in servers.items():
                if rate > 0.95 * most[system]:
                    print(f" {system} saturated", end="", flush=True)
                    continue
                seconds = max(options.seconds, min(100 / rate, 20))
                request = folder / f"{kind[system]}.bin"
                got = drive(options.load, server, request, seconds, f"--rate={rate}")
                p50[system] = got["p50_us"]
                print(
                    f" {system} {got['p50_us']:.0f}/{got['p99_us']:.0f} [{got['cpu_us']:.0f}]",
                    end="",
                    flush=True,
                )
            against = [p50[system] for system in TENSORFLOW if system in p50]
            own_p50 = min(p50.get(system, float("inf")) for system in ROWS)
            print(f" = x{own_p50 / min(against):.2f}" if against else "")
    finally:
        for server in servers.values():
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("server", nargs="?", default="tensorflow_model_server")
    parser.add_argument("--load", required=True, help="the grpc_load program")
    parser.add_argument("--model", choices=["mlp", "transformer"], help="one of them only")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one figure")
    options = parser.parse_args()
    for name, make in (("mlp", mlp), ("transformer", transformer)):
        if options.model in (None, name):
            with tempfile.TemporaryDirectory() as temporary:
                compare(name, make(), options, Path(temporary))


if __name__ == "__main__":
    main()
