"""Models compiled without a GPU, run on a machine that has one and no TensorFlow, beside JAX's own jit.

On a machine with this package and the CUDA plugin, no GPU:
  python benchmarks/gpu.py prepare FOLDER [--target=cuda:h100]
Then copy FOLDER to the machine of the GPU, which needs Python with JAX and the same CUDA plugin, and no
network:
  python FOLDER/gpu.py run FOLDER
It compares the answers with those of the emulator, measures each model for batches of 1, 8 and 32 with 1 to 8
calls in flight, and JAX's jit of the same model on the same card in the same run. All takes less than 15
minutes; --seconds shortens each measurement. FOLDER/results.txt keeps the output.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from gpu_models import BATCHES, MODELS, JaxOps, TensorFlowOps

# TF32 is what a GPU computes products of 32-bit numbers in, unless it is told otherwise.
TOLERANCE = 2e-2


def prepare(folder: Path, target: str, plugin: str | None, names: list[str]) -> None:
    import tensorflow as tf
    from tensorflow_ipu import serving
    from tensorflow_ipu.cli import main

    folder.mkdir(parents=True, exist_ok=True)
    for source in (Path(__file__), Path(__file__).with_name("gpu_models.py")):
        shutil.copy(source, folder)
    shutil.copy(Path(sys.executable).parent / "device_check", folder)
    shutil.copy(Path(tf.sysconfig.get_lib()) / "libtensorflow_framework.so.2", folder)
    ops = TensorFlowOps()
    for name in names:
        make, row = MODELS[name]
        model = make(ops)
        for batch in BATCHES:
            start = time.monotonic()
            signature = [tf.TensorSpec([batch, *row], tf.float32, name="x")]
            emulated, compiled = (str(folder / f".{kind}") for kind in ("emulated", "compiled"))
            serving.export_single_step(model, emulated, 16, signature, purge_export_dir=True)
            main(["record", emulated, str(folder / f"{name}_{batch}.steps"), "--steps=2"])
            serving.export_single_step(
                model,
                compiled,
                16,
                signature,
                purge_export_dir=True,
                target=target,
                device_plugin=plugin,
            )
            shutil.move(os.path.join(compiled, "assets", "executable.ipu"), folder / f"{name}_{batch}.ipu")
            for path in (emulated, compiled):
                shutil.rmtree(path)
            print(f"{name}, batch {batch}: {time.monotonic() - start:.1f} s", flush=True)


def find_plugin() -> str:
    import importlib.util

    for package, library in (
        ("jax_plugins.xla_cuda13", "xla_cuda_plugin.so"),
        ("jax_plugins.xla_cuda12", "xla_cuda_plugin.so"),
    ):
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        if found is not None and found.submodule_search_locations:
            path = Path(found.submodule_search_locations[0]) / library
            if path.exists():
                return str(path)
    raise SystemExit("No CUDA plugin of JAX is installed here; name its library with --plugin.")


def measure_jax(name: str, batch: int, seconds: float) -> str:
    """Milliseconds a call, from a host array to a host array, and calls a second with eight enqueued."""
    import jax
    import numpy as np

    make, row = MODELS[name]
    run = jax.jit(make(JaxOps()))
    x = np.random.default_rng(0).uniform(-1, 1, (batch, *row)).astype(np.float32)
    np.asarray(run(x))
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        np.asarray(run(x))
        times.append(time.perf_counter() - start)
    pending: list[Any] = []
    answered = 0
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        pending.append(run(x))
        if len(pending) == 8:
            np.asarray(pending.pop(0))
            answered += 1
    rate = answered / (time.monotonic() - start)
    return f"JAX's jit: p50 {np.median(times) * 1e6:.1f} us; {rate:.0f} calls/s with 8 enqueued"


def run(folder: Path, plugin: str | None, seconds: float, jax: bool, tolerance: float) -> int:
    plugin = plugin or find_plugin()
    wrong = 0
    with open(folder / "results.txt", "w", encoding="utf-8") as results:

        def tell(text: str) -> None:
            print(text, flush=True)
            print(text, file=results, flush=True)

        for name in MODELS:
            for batch in BATCHES:
                executable = folder / f"{name}_{batch}.ipu"
                if not executable.exists():
                    continue
                tell(f"\n{name}, batch {batch}")
                done = subprocess.run(
                    [
                        str(folder / "device_check"),
                        str(executable),
                        f"--plugin={plugin}",
                        f"--steps={folder / f'{name}_{batch}.steps'}",
                        f"--tolerance={tolerance}",
                        f"--seconds={seconds}",
                        "--preallocate=false",
                    ][: None if "cuda" in plugin else -1],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=180,
                )
                tell(done.stdout.strip())
                wrong += done.returncode != 0
                if jax:
                    tell(measure_jax(name, batch, seconds))
        tell(f"\n{'all right' if not wrong else f'{wrong} WRONG'}")
    return int(wrong > 0)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["prepare", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", default="cuda:h100")
    parser.add_argument("--plugin", help="path of the plugin's library; default: that of the package")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument("--no-jax", action="store_true")
    options = parser.parse_args()
    if options.what == "prepare":
        prepare(options.folder, options.target, options.plugin, options.models.split(","))
        return 0
    return run(options.folder, options.plugin, options.seconds, not options.no_jax, options.tolerance)


if __name__ == "__main__":
    sys.exit(main())
