"""Every example exports a model, runs it, and the model server serves it."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ipu.config import reset_ipu_configuration

EXAMPLES = Path(__file__).parent.parent / "examples"

NUMBERS = [1.0, -2.0, 5.0, 7.0]
WORDS = ["graphcore", "red", "blue", "graphcore", "green", "yellow"]

# name: (inputs, results that must be equal, None for random ones)
CASES: dict[str, tuple[list, list]] = {
    "single_step": (NUMBERS, [2, -4, 10, 14]),
    "pipeline": (NUMBERS, [5, -1, 13, 17]),
    "single_step_device_steps": (NUMBERS, [30]),
    "single_step_cpu_steps": (WORDS, [2, None, None, 2, None, None]),
    "pipeline_device_steps": (NUMBERS, [42]),
    "pipeline_cpu_steps": (WORDS, [5, None, None, 5, None, None]),
}


def check(results: np.ndarray, expected: list) -> None:
    results = np.reshape(results, [-1])
    assert len(results) == len(expected)
    for result, value in zip(results, expected, strict=True):
        assert result == value if value is not None else np.isfinite(result)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("name", CASES)
def test_example(name: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = models / name / "001"
    monkeypatch.setattr(sys, "argv", [f"{name}.py", str(directory)])
    try:
        script = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    finally:
        reset_ipu_configuration()
    inputs, expected = CASES[name]
    check(script["runtime_function"](tf.constant(inputs)).numpy(), expected)
    loaded = tf.saved_model.load(str(directory))
    (output,) = loaded.signatures["serving_default"](tf.constant(inputs)).values()
    check(output.numpy(), expected)
