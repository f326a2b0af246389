"""Reloads a config of many models under load: no request may fail, and memory must not grow.

    python benchmarks/reload_stress.py [--models=100] [--reloads=50] [--clients=16]

Each reload changes the version of every model, so that all are loaded and the others unloaded while clients
call all of them over REST. Prints how long reloads took, how many requests were answered meanwhile, and the
server's anonymous memory after the first fifth of the reloads and after the last; fails when a request did or
when memory grew by more than a tenth.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from model_server import ModelServer, anonymous_memory
from reload_load import ManyModels, clients, reload_all

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        models = ManyModels(Path(folder), arguments.models)
        with ModelServer(f"--model_config_file={models.write_config(1)}") as server:
            took, memory = [], []
            with clients(server, models, arguments.clients) as answers:
                for turn in range(arguments.reloads):
                    started = time.monotonic()
                    reload_all(server, models, 2 - turn % 2)
                    took.append(time.monotonic() - started)
                    memory.append(anonymous_memory(server))
            cpu = cpu_seconds(server.pid)
    warm = memory[len(memory) // 5]
    growth = memory[-1] / warm
    print(
        f"{arguments.reloads} reloads of {arguments.models} models: median {statistics.median(took):.2f} s,"
        f" longest {max(took):.2f} s, {sum(took):.0f} s in all, {cpu:.0f} CPU-seconds of the server"
    )
    print(f"{answers.right} requests of {arguments.clients} clients answered, {len(answers.wrong)} failed")
    print(f"anonymous memory: {warm / 1024:.0f} MiB, at the end {memory[-1] / 1024:.0f} MiB ({growth:.2f})")
    for wrong in answers.wrong[:5]:
        print(wrong, file=sys.stderr)
    return 1 if answers.wrong or growth > 1.1 else 0


if __name__ == "__main__":
    sys.exit(main())
