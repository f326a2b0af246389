"""Exporting, loading and unloading again and again leaves nothing behind."""

import ctypes
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

WARM_UP, CYCLES = 25, 200


def test_memory_and_threads_come_back(tmp_path: Path) -> None:
    """In a process of its own: what other tests leave to the garbage collector is no part of the figures."""
    command = [sys.executable, __file__, str(tmp_path / "model")]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    before, after = json.loads(output.splitlines()[-1])
    # A model and its two engines are more than 1 MiB. What grows is what TensorFlow remembers of each
    # function it has traced, some 50 KiB.
    assert after["memory"] - before["memory"] < 20 << 20
    assert after["threads"] <= before["threads"]
    assert after["engines"] == []


def figures() -> dict:
    from tensorflow_ipu._runtime import native

    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "memory": resident,
        "threads": len(os.listdir("/proc/self/task")),
        "engines": native.engine_names(),
    }


def main(directory: str) -> None:
    import numpy as np
    import tensorflow as tf
    from tensorflow_ipu import serving

    weights = tf.Variable(tf.random.stateless_normal([256, 256], [1, 2]))  # 256 KiB
    x = tf.ones([4, 256])
    expected = tf.nn.relu(x @ weights)

    def predict_step(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x @ weights)

    def cycle() -> None:
        run = serving.export_single_step(
            predict_step, directory, 4, [tf.TensorSpec([4, 256])], purge_export_dir=True
        )
        np.testing.assert_allclose(run(x)[0], expected, rtol=1e-5, atol=1e-5)
        loaded = tf.saved_model.load(directory)
        served = loaded.signatures["serving_default"](x)["output_0"]
        np.testing.assert_allclose(served, expected, rtol=1e-5, atol=1e-5)

    for _ in range(WARM_UP):  # TensorFlow's own caches fill up
        cycle()
    before = figures()
    for number in range(CYCLES):
        cycle()
        if number % 10 == 0:
            gc.collect()  # graphs refer to themselves
    print(json.dumps([before, figures()]))


if __name__ == "__main__":
    main(sys.argv[1])
