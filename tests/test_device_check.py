"""`device_check`: an executable on a PJRT plugin without TensorFlow, against what was recorded elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pjrt_plugins import cpu_plugin
from tensorflow_ipu import serving
from tensorflow_ipu.cli import main

PROGRAM = str(Path(sys.executable).parent / "device_check")


def check(*arguments: str, program: str = PROGRAM) -> subprocess.CompletedProcess:
    return subprocess.run([program, *arguments], capture_output=True, text=True)


def network(weights: tf.Tensor) -> Callable:
    def step(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        y = tf.tanh(x @ weights)
        return y, tf.argmax(y, axis=1, output_type=tf.int32)

    return step


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network and another one, for the emulator and for a plugin, and what the emulator answers."""
    folder = tmp_path_factory.mktemp("models")
    plugin = cpu_plugin()
    for name, seed in (("one", 1), ("other", 2)):
        weights = tf.constant(np.random.default_rng(seed).normal(size=(16, 16)).astype(np.float32))

        step = network(weights)
        signature = [tf.TensorSpec([4, 16], tf.float32, name="x")]
        serving.export_single_step(step, str(folder / name / "ipu"), 4, signature)
        serving.export_single_step(
            step, str(folder / name / "pjrt"), 4, signature, target="cpu-pjrt", device_plugin=plugin.path
        )
        assert main(["record", str(folder / name / "ipu"), str(folder / f"{name}.steps")]) == 0
    return folder


def executable(models: Path, name: str) -> str:
    return str(models / name / "pjrt" / "assets" / "executable.ipu")


def test_right_answers_and_figures(models: Path) -> None:
    done = check(
        executable(models, "one"),
        f"--plugin={cpu_plugin().path}",
        f"--steps={models / 'one.steps'}",
        "--seconds=0.05",
    )
    assert done.returncode == 0, done.stderr
    assert "4 steps, 272 values" in done.stdout and "0 unequal" in done.stdout
    assert "calls in flight" in done.stdout


def test_wrong_answers_and_wrong_files(models: Path, tmp_path: Path) -> None:
    plugin = f"--plugin={cpu_plugin().path}"
    done = check(executable(models, "one"), plugin, f"--steps={models / 'other.steps'}")
    assert done.returncode == 1 and "not the recorded ones" in done.stderr
    for arguments, says in (
        ((executable(models, "one"), plugin, f"--steps={tmp_path / 'none'}"), "Cannot open"),
        ((executable(models, "one"),), "this process has none"),
        ((str(models / "one" / "ipu" / "assets" / "executable.ipu"), plugin), "device of kind 'ipu'"),
        ((str(tmp_path / "none.ipu"), plugin), "none.ipu"),
    ):
        done = check(*arguments)
        assert done.returncode == 1 and says in done.stderr, done.stderr
    assert check(executable(models, "one"), plugin, "--nonsense").returncode == 2


def test_it_needs_one_library_of_tensorflows(models: Path, tmp_path: Path) -> None:
    library = Path(tf.sysconfig.get_lib()) / "libtensorflow_framework.so.2"
    shutil.copy(PROGRAM, tmp_path)
    os.symlink(library, tmp_path / library.name)
    done = check(
        executable(models, "one"),
        f"--plugin={cpu_plugin().path}",
        f"--steps={models / 'one.steps'}",
        program=str(tmp_path / "device_check"),
    )
    assert done.returncode == 0, done.stderr
    linked = subprocess.run(["ldd", str(tmp_path / "device_check")], capture_output=True, text=True).stdout
    assert "libtensorflow_framework" in linked and "libtensorflow_cc" not in linked
