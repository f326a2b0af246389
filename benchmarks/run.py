"""Runs the benchmarks one after the other: what `make bench` does.

    python benchmarks/run.py [NAME...]

Wants the built tree (BUILD, default `build`) and the installed package. Each benchmark prints its own figures
and ratios; measure on an idle machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commands(build: Path, server: str) -> dict[str, list[str]]:
    """The command line of each benchmark, by name."""
    native = build / "benchmarks"
    load = f"--load={native / 'grpc_load'}"
    return {
        "emulator": [str(native / "emulator_benchmark"), "--benchmark_min_time=0.3"],
        "json_floats": [str(native / "json_floats"), "--benchmark_min_time=0.3"],
        "op_overhead": [str(native / "op_overhead")],
        "batching": [str(native / "batching")],
        "export_resnet50": [sys.executable, str(HERE / "export_resnet50.py")],
        "low_load": [sys.executable, str(HERE / "low_load.py"), load, server],
        "arrival_rates": [sys.executable, str(HERE / "arrival_rates.py"), load, server],
        "slow_beside_fast": [sys.executable, str(HERE / "slow_beside_fast.py"), load, server],
        "upgrade": [sys.executable, str(HERE / "upgrade.py"), load, server],
        "reload_stress": [sys.executable, str(HERE / "reload_stress.py")],
        "serve": [sys.executable, str(HERE / "serve_compare.py"), load, server],
    }


def main() -> int:
    server = shutil.which("tensorflow_model_server")
    if server is None:
        sys.exit("tensorflow_model_server is not on the PATH: install the package, or run `make bench`")
    known = commands(Path(os.environ.get("BUILD", "build")), server)
    wanted = sys.argv[1:] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"no benchmark {unknown[0]!r}; there are: {', '.join(known)}")
    failed = []
    for name in wanted:
        print(f"\n=== {name}: {' '.join(known[name])}", flush=True)
        if subprocess.run(known[name], check=False).returncode != 0:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
