"""Paths that are given as file:// URLs, and what else a path may be."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from export_models import serve
from tensorflow_ipu import serving
from tensorflow_ipu.application_compile_op import experimental_application_compile_op
from tensorflow_ipu.cli import main
from tensorflow_ipu.embedded_runtime import (
    embedded_runtime_call,
    embedded_runtime_start,
    embedded_runtime_stop,
)
from tensorflow_ipu.local_path import local_path

FOUR = tf.TensorSpec([4], tf.float32)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in which nothing may appear."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "kind", [str, os.fsencode, Path, np.str_, tf.constant, lambda path: f"file://{path}"]
)
def test_what_a_path_may_be(kind: Callable[[str], Any]) -> None:
    assert local_path("path", kind("/a/b c%20d")) == "/a/b c%20d"
    assert local_path("path", "relative/file:/x") == "relative/file:/x"
    assert local_path("path", "file://localhost/a") == "/a"
    assert local_path("path", "FILE:///a") == "/a"


@pytest.mark.parametrize("url", ["gs://bucket/a", "s3://bucket/a", "file://server/a", "file://a"])
def test_what_is_not_on_this_machine_is_refused(url: str, own_folder: Path) -> None:
    with pytest.raises(ValueError, match="`path`"):
        local_path("path", url)
    with pytest.raises(ValueError, match="`export_dir`"):
        serving.export_single_step(lambda x: x, url, 1, [FOUR])
    with pytest.raises(ValueError, match="`output_path`"):
        experimental_application_compile_op(lambda: tf.ones([2]), output_path=url)
    with pytest.raises(ValueError, match="`executable_file`"):
        embedded_runtime_start(url, [], "name")
    assert os.listdir(own_folder) == []


@pytest.mark.parametrize("wrong", [None, 3, ["a"], np.float32(1)])
def test_what_is_not_a_path_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="`export_dir` must be a path"):
        serving.export_single_step(lambda x: x, wrong, 1, [FOUR])


def test_exports_and_executables_by_url(
    tmp_path: Path, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"file://{tmp_path}/models/1"
    run = serving.export_single_step(lambda x: x * 2, url, 4, [FOUR])
    assert run(tf.ones([4]))[0].numpy().tolist() == [2] * 4
    assert serve(tmp_path / "models" / "1")(x=[1] * 4)["output_0"].tolist() == [2] * 4
    with pytest.raises(ValueError, match="is not empty"):
        serving.export_single_step(lambda x: x, url, 4, [FOUR])
    serving.export_single_step(lambda x: x * 3, url, 4, [FOUR], purge_export_dir=True)

    context = embedded_runtime_start(f"{url}/assets/executable.ipu", [], "by url")
    assert embedded_runtime_call([tf.ones([4])], context)[0].numpy().tolist() == [3] * 4
    embedded_runtime_stop(context)

    path = experimental_application_compile_op(
        lambda: tf.constant([1.0]) * 2.0, output_path=f"file://{tmp_path}/a.exec"
    )
    assert path.numpy().decode() == str(tmp_path / "a.exec")
    assert (tmp_path / "a.exec").exists()
    assert main(["inspect", url]) == 0
    assert "executable.ipu" in capsys.readouterr().out
    assert os.listdir(own_folder) == []
