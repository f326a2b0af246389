"""Exporting, loading and unloading again and again leaves nothing behind."""

import ctypes
import gc
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_ipu import serving
from tensorflow_ipu._runtime import native

CYCLES = 200


def resident_bytes() -> int:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_and_threads_come_back(tmp_path: Path) -> None:
    directory = str(tmp_path / "model")
    weights = tf.Variable(tf.random.stateless_normal([256, 256], [1, 2]))  # 256 KiB
    x = tf.ones([4, 256])
    expected = tf.nn.relu(x @ weights)

    def cycle() -> None:
        run = serving.export_single_step(
            lambda x: tf.nn.relu(x @ weights),
            directory,
            4,
            [tf.TensorSpec([4, 256])],
            purge_export_dir=True,
        )
        np.testing.assert_allclose(run(x), expected, rtol=1e-5, atol=1e-5)
        loaded = tf.saved_model.load(directory)
        np.testing.assert_allclose(
            loaded.signatures["serving_default"](x)["output_0"], expected, rtol=1e-5, atol=1e-5
        )

    running = set(native.engine_names())
    for _ in range(25):  # TensorFlow's own caches fill up
        cycle()
    memory, threads = resident_bytes(), len(os.listdir("/proc/self/task"))
    for _ in range(CYCLES):
        cycle()
    # A model and its two engines are 1 MiB. What grows is what TensorFlow remembers of each function it has
    # traced, some 50 KiB.
    assert resident_bytes() - memory < 20 << 20
    assert len(os.listdir("/proc/self/task")) <= threads
    assert set(native.engine_names()) == running
