"""Compares model servers: starts each on the same models, drives them in turn, prints a table and ratios.

    python benchmarks/serve_compare.py --load=build/benchmarks/grpc_load OURS [THEIRS]

OURS and THEIRS are `tensorflow_model_server` binaries; with one of them it only measures. The models are
half-plus-two (`hpt`, one element a row) and a 784-512-512-10 network (`mlp`). gRPC is driven by `grpc_load`,
with tensor_content, and REST by wrk. Both run on the same machine as the server, so the figure to compare is
CPU time of the server for each request. Every run is done for each server directly after another, `--repeat`
times, and the best counts. A cell is: requests per second, p50/p99 in microseconds, CPU microseconds of the
server for a request [requests per CPU-second]. "client busy" says that the client was at work for nine tenths
of a run or more, and may have been what limited it; the CPU figures are right all the same.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predict_request import write_predict_request
from running_server import Server, cpu_seconds, rss_mib

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

MODELS = ("hpt", "mlp")
BATCHING = (
    "max_batch_size { value: 128 }\nbatch_timeout_micros { value: 1000 }\nnum_batch_threads { value: 2 }\n"
)


@dataclass
class Measured:
    """What a run gave."""

    rps: float
    p50_us: float
    p99_us: float
    per_cpu_second: float
    client_share: float = 0.0  # of the run that the client, which is one thread, used the CPU

    def __str__(self) -> str:
        cpu_us = 1e6 / self.per_cpu_second if self.per_cpu_second else 0.0
        return (
            f"{self.rps:.0f}/s {self.p50_us:.0f}/{self.p99_us:.0f} us, CPU {cpu_us:.1f} us"
            f" [{self.per_cpu_second:.0f}]{' (client busy)' if self.client_share >= 0.9 else ''}"
        )


def client_cpu_seconds() -> float:
    """Of the client programs that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def write_requests(folder: Path) -> None:
    """NAME.bin for gRPC and NAME.lua for wrk, for hpt1, hpt32, mlp1 and mlp32."""
    import numpy as np

    random = np.random.default_rng(1)
    for model, width in (("hpt", None), ("mlp", 784)):
        for rows in (1, 32):
            shape = [rows] if width is None else [rows, width]
            values = random.random(shape, np.float32)
            write_predict_request(folder / f"{model}{rows}.bin", model, values)
            body = json.dumps({"instances": values.tolist()})
            (folder / f"{model}{rows}.lua").write_text(
                f"wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\n"
                f"wrk.body = [==[{body}]==]\n"
            )


def grpc_run(server: Server, load: str, request: Path, in_flight: int, seconds: float) -> Measured:
    """`in_flight` calls over at most four connections, as a client library with a few channels."""
    arguments = {
        "port": server.grpc_port,
        "request": request,
        "connections": min(4, in_flight),
        "in_flight": in_flight,
        "seconds": seconds,
        "pid": server.process.pid,
    }
    before = client_cpu_seconds()
    done = subprocess.run(
        [load, *(f"--{name}={value}" for name, value in arguments.items())], capture_output=True, text=True
    )
    share = (client_cpu_seconds() - before) / seconds
    if not done.stdout:
        sys.exit(f"grpc_load failed: {done.stderr}")
    got: dict[str, Any] = json.loads(done.stdout)
    if got["errors"]:
        print(f"  {got['errors']} calls failed", file=sys.stderr)
    return Measured(got["rps"], got["p50_us"], got["p99_us"], got["per_cpu_second"], share)


def rest_run(server: Server, script: Path, model: str, connections: int, seconds: float) -> Measured:
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--latency",
        "-s",
        str(script),
    ]
    before, client_before = cpu_seconds(server.process.pid), client_cpu_seconds()
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{server.rest_port}/v1/models/{model}:predict"],
        capture_output=True,
        text=True,
        check=True,
    )
    cpu = cpu_seconds(server.process.pid) - before
    text = done.stdout
    if "Non-2xx" in text:
        print(f"  {re.search('Non-2xx.*', text)[0]}", file=sys.stderr)  # type: ignore[index]
    unit = {"us": 1.0, "ms": 1e3, "s": 1e6}

    def latency(percent: str) -> float:
        found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", text)
        return float(found[1]) * unit[found[2]] if found else 0.0

    requests = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]
    rps = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]
    share = (client_cpu_seconds() - client_before) / max(1, round(seconds))
    return Measured(rps, latency("50"), latency("99"), requests / cpu if cpu > 0 else 0.0, share)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("servers", nargs="+", help="one or two tensorflow_model_server binaries")
    parser.add_argument("--load", required=True, help="the grpc_load program")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one run")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument(
        "--only", default="", help="a regular expression for the runs' names, like 'grpc hpt1'"
    )
    parser.add_argument("--flag", action="append", default=[], help="a further flag for all servers")
    options = parser.parse_args()
    if len(options.servers) > 2:
        parser.error("at most two servers")

    from conformance.models import write_models

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = write_models(folder)
        write_requests(folder)
        batching = folder / "batching.config"
        batching.write_text(BATCHING)
        variants = {
            "no batching": [],
            "batching": ["--enable_batching"],
            "batching 1 ms": ["--enable_batching", f"--batching_parameters_file={batching}"],
        }
        for variant, flags in variants.items():
            runs = [
                (f"{variant}: {api} {model}{rows} x{calls}", api, model, rows, calls)
                for api in ("rest", "grpc")
                for model in ("hpt", "mlp")
                for rows in (1, 32)
                for calls in (1, 8, 32)
            ]
            runs = [run for run in runs if re.search(options.only, run[0])]
            if not runs:
                continue
            servers = [Server(binary, config, [*flags, *options.flag], MODELS) for binary in options.servers]
            try:
                for server, binary in zip(servers, options.servers, strict=True):
                    memory = rss_mib(server.process.pid)
                    print(f"{variant}: {binary} served after {server.startup_s:.2f} s, RSS {memory:.0f} MiB")
                if len(servers) == 2:
                    start = servers[0].startup_s / servers[1].startup_s
                    memory = rss_mib(servers[0].process.pid) / rss_mib(servers[1].process.pid)
                    print(f"{variant}: start-up x{start:.2f}, RSS x{memory:.2f}")
                for name, api, model, rows, calls in runs:
                    best: list[Measured] = []
                    for server in servers:
                        got = [
                            grpc_run(
                                server, options.load, folder / f"{model}{rows}.bin", calls, options.seconds
                            )
                            if api == "grpc"
                            else rest_run(
                                server, folder / f"{model}{rows}.lua", model, calls, options.seconds
                            )
                            for _ in range(options.repeat)
                        ]
                        best.append(max(got, key=lambda one: one.per_cpu_second))
                    line = f"{name}: " + " against ".join(map(str, best))
                    if len(best) == 2 and best[1].rps and best[1].per_cpu_second:
                        line += f" = x{best[0].rps / best[1].rps:.2f}"
                        line += f" [x{best[0].per_cpu_second / best[1].per_cpu_second:.2f}]"
                    print(line, flush=True)
                for server, binary in zip(servers, options.servers, strict=True):
                    memory = rss_mib(server.process.pid)
                    print(f"{variant}: {binary} has RSS {memory:.0f} MiB after the load")
            finally:
                for server in servers:
                    server.stop()


if __name__ == "__main__":
    main()
