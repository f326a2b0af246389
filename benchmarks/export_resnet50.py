"""What the export of ResNet50 costs, and what the result costs to load, beside the plain SavedModel of the
same model.

    python export_resnet50.py [--size 224] [--batch 1]

Prints a table: time to export, size on disk, time to load, time of the first and of further calls, and the
memory that loading and calling adds to the process (all of it, and what is not shared with the file). Each
SavedModel is loaded in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--batch", type=int, default=1, help="images in a batch")
    parser.add_argument("--calls", type=int, default=20, help="calls whose median time is reported")
    parser.add_argument("--load", help="(internal) measure the SavedModel in this folder")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    shape = [arguments.batch, arguments.size, arguments.size, 3]
    if arguments.load:
        print(json.dumps(measure_load(arguments.load, shape, arguments.calls)))
        return
    with tempfile.TemporaryDirectory() as workspace:
        rows = {}
        for name, seconds in export_both(workspace, shape).items():
            folder = os.path.join(workspace, name)
            command = [sys.executable, __file__, *sys.argv[1:], "--load", folder]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows[name] = {
                "export, s": seconds,
                "size on disk, MB": folder_bytes(folder) / 1e6,
                **json.loads(output.splitlines()[-1]),
            }
    columns = list(rows)
    print(f"ResNet50, batch of {arguments.batch}, {arguments.size} x {arguments.size}")
    print(f"{'':30}" + "".join(f"{column:>16}" for column in columns))
    for figure in rows[columns[0]]:
        print(f"{figure:30}" + "".join(f"{rows[column][figure]:16.2f}" for column in columns))


def export_both(workspace: str, shape: list[int]) -> dict[str, float]:
    """Writes the executable and the plain SavedModel; returns how long each took."""
    import keras
    import tensorflow as tf
    from tensorflow_ipu import serving

    keras.utils.set_random_seed(1)
    model = keras.applications.ResNet50(weights=None, input_shape=tuple(shape[1:]))
    signature = [tf.TensorSpec(shape, tf.float32, "image")]

    @tf.function(input_signature=signature)
    def predict_step(image: Any) -> Any:
        return model(image, training=False)

    # What TensorFlow and the compiler load on first use is not part of the figure.
    serving.export_single_step(lambda x: x * 2, os.path.join(workspace, "first"), 1, [tf.TensorSpec([1])])
    start = time.perf_counter()
    serving.export_single_step(predict_step, os.path.join(workspace, "executable"), 1)
    exported = time.perf_counter() - start

    module = tf.Module()
    module.variables_of_model = model.variables
    module.model = model
    start = time.perf_counter()
    tf.saved_model.save(module, os.path.join(workspace, "plain"), signatures=predict_step)
    return {"executable": exported, "plain": time.perf_counter() - start}


def measure_load(folder: str, shape: list[int], calls: int) -> dict[str, float]:
    """Time and memory of loading and calling, in a process that has done nothing else."""
    import numpy as np
    import tensorflow as tf
    import tensorflow_ipu.embedded_runtime  # noqa: F401  registers the ops

    image = tf.constant(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    tf.matmul(tf.ones([64, 64]), tf.ones([64, 64]))
    before = memory()
    start = time.perf_counter()
    model = tf.saved_model.load(folder)
    loaded = time.perf_counter()
    signature = model.signatures["serving_default"]
    signature(image)
    first = time.perf_counter()
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        signature(image)
        times.append(time.perf_counter() - begin)
    after = memory()
    return {
        "load, s": loaded - start,
        "first call, ms": (first - loaded) * 1e3,
        "further calls, ms": float(np.median(times)) * 1e3,
        "resident memory added, MB": (after[0] - before[0]) / 1e6,
        "of it private, MB": (after[1] - before[1]) / 1e6,
    }


def memory() -> tuple[int, int]:
    """Resident bytes: all, and those that are not pages of a file."""
    figures = {}
    with open("/proc/self/smaps_rollup") as lines:
        for line in lines:
            parts = line.split()
            if parts[0].endswith(":") and parts[-1] == "kB":
                figures[parts[0]] = int(parts[1]) * 1024
    return figures["Rss:"], figures["Anonymous:"]


def folder_bytes(folder: str) -> int:
    return sum(
        os.path.getsize(os.path.join(parent, file)) for parent, _, files in os.walk(folder) for file in files
    )


if __name__ == "__main__":
    main()
