"""Which installed TensorFlow the package takes, and what it says of others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parent.parent
NEEDED = "2.21.0"


def install(folder: Path, name: str, version: str) -> None:
    """What pip would leave of a distribution, as far as it is looked at."""
    (folder / "tensorflow").mkdir(exist_ok=True)
    (folder / "tensorflow" / "__init__.py").touch()
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def import_beside(folder: Path, program: str = "import tensorflow_ipu") -> str:
    """What importing the package ends with, where `folder` is all that is installed."""
    paths = [str(folder), str(TREE / "python")]
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {paths}; {program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def check_beside(folder: Path) -> str:
    file = TREE / "python" / "tensorflow_ipu" / "tensorflow_version.py"
    return import_beside(folder, f"import runpy; runpy.run_path({str(file)!r})['check']()")


@pytest.mark.parametrize("names", [["tensorflow"], ["tensorflow-cpu"], ["tensorflow", "tensorflow-cpu"]])
def test_either_distribution_will_do(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        install(tmp_path, name, NEEDED)
    assert check_beside(tmp_path) == ""


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ([("tensorflow", "2.20.0")], "found tensorflow 2.20.0."),
        ([("tensorflow-cpu", "2.22.0")], "found tensorflow-cpu 2.22.0."),
        (
            [("tensorflow", NEEDED), ("tensorflow-cpu", "2.19.0")],
            "found tensorflow 2.21.0 and tensorflow-cpu 2.19.0.",
        ),
        ([("tf-nightly", NEEDED)], "found a build of another name at "),
        ([], "found none."),
    ],
)
def test_another_one_is_named(tmp_path: Path, installed: list[tuple[str, str]], found: str) -> None:
    for name, version in installed:
        install(tmp_path, name, version)
    error = import_beside(tmp_path)
    assert error.startswith(f"ImportError: tensorflow_ipu needs TensorFlow {NEEDED}"), error
    assert found in error and f"pip install tensorflow=={NEEDED}" in error


def test_the_alias_alone_is_no_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "tensorflow" / "python" / "ipu").mkdir(parents=True)
    assert "found none." in import_beside(tmp_path)


def test_the_version_is_that_of_the_build() -> None:
    project = (TREE / "pyproject.toml").read_text()
    assert project.count(f'"tensorflow=={NEEDED}"') == project.count('"tensorflow==') == 3
    assert f"TFIPU_TENSORFLOW_VERSION {NEEDED}" in (TREE / "cmake" / "TensorFlow.cmake").read_text()
    assert f'NEEDED = "{NEEDED}"' in (TREE / "python/tensorflow_ipu/tensorflow_version.py").read_text()
