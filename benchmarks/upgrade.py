"""What clients notice of a version's change: latencies before and while a new version is loaded.

    python benchmarks/upgrade.py --load=build/benchmarks/grpc_load [SERVER]

A model of 100 MB of weights is called over gRPC by a fixed number of clients in a closed loop. Meanwhile the
next version appears, is loaded, takes over, and the old one is unloaded; several times. A call belongs to a
change when it was answered between the appearance of the new version and the end of the old one; all other
calls are "before". Prints failed calls, p50 and p99 of both, and the ratios.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from predict_request import write_predict_request
from running_server import Server

CLIENTS = 8


def write_version(path: Path, megabytes: int) -> None:
    """A network 784-512-512-10 beside a table that only takes memory and time to load."""
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [
                tf.Variable(tf.random.normal(shape, stddev=0.05))
                for shape in ([784, 512], [512, 512], [512, 10])
            ]
            self.table = tf.Variable(tf.random.normal([megabytes * 1024, 256]))

        @tf.function(input_signature=[tf.TensorSpec([None, 784], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            for layer in self.layers[:-1]:
                x = tf.nn.relu(tf.matmul(x, layer))
            return {"y": tf.matmul(x, self.layers[-1]) + self.table[0, :10]}

    model = Model()
    tf.saved_model.save(model, str(path), signatures={"serving_default": model.serve})


def states(server: Server) -> dict[int, str]:
    body = server.get("/v1/models/m").partition(b"\r\n\r\n")[2]
    return {int(one["version"]): one["state"] for one in json.loads(body)["model_version_status"]}


def change(server: Server, base: Path, template: Path, version: int) -> tuple[float, float]:
    """Makes the version appear, and returns when that was and when the version before it had ended."""
    copy = base / f"unfinished-{version}"
    shutil.copytree(template, copy)
    began = time.monotonic()
    copy.rename(base / str(version))
    while states(server).get(version) != "AVAILABLE" or states(server).get(version - 1) not in ("END", None):
        time.sleep(0.01)
    return began, time.monotonic()


def percentile(latencies: list[int], share: float) -> int:
    return sorted(latencies)[min(len(latencies) - 1, int(share * len(latencies)))] if latencies else 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("server", nargs="?", default="tensorflow_model_server")
    parser.add_argument("--load", required=True, help="the grpc_load program")
    parser.add_argument("--changes", type=int, default=5)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between changes")
    parser.add_argument("--megabytes", type=int, default=100, help="of weights")
    parser.add_argument("--flag", action="append", default=[], help="a further flag for the server")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        template, base = folder / "template", folder / "m"
        write_version(template, options.megabytes)
        shutil.copytree(template, base / "1")
        write_predict_request(folder / "request.bin", "m", [[0.5] * 784])
        config = folder / "models.config"
        config.write_text(
            f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" }} }}'
        )
        server = Server(options.server, config, options.flag, ["m"])
        try:
            seconds = options.changes * (options.pause + 4) + 4
            load = subprocess.Popen(
                [
                    options.load,
                    f"--port={server.grpc_port}",
                    f"--request={folder / 'request.bin'}",
                    f"--connections={CLIENTS}",
                    f"--in_flight={CLIENTS}",
                    f"--seconds={seconds}",
                    f"--calls={folder / 'calls'}",
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            time.sleep(1 + options.pause)
            windows = []
            for version in range(2, options.changes + 2):
                windows.append(change(server, base, template, version))
                time.sleep(options.pause)
            output, _ = load.communicate()
        finally:
            server.stop()
        if not output:
            sys.exit("grpc_load failed")
        print(f"{json.loads(output)['errors']} calls failed of {json.loads(output)['requests']}")
        before: list[int] = []
        during: list[int] = []
        for line in (folder / "calls").read_text().splitlines():
            answered, latency = map(int, line.split())
            at = answered / 1e6
            (during if any(began <= at <= ended for began, ended in windows) else before).append(latency)
    lasted = sorted(ended - began for began, ended in windows)
    print(f"a change took {lasted[len(lasted) // 2]:.2f} s (median of {len(lasted)})")
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        was, became = percentile(before, share), percentile(during, share)
        ratio = became / was if was else 0.0
        print(f"{name}: before {was} us, during a change {became} us = x{ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
