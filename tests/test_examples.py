"""Every example exports a model, runs it, and the model server serves it."""

import json
import runpy
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from model_server import ModelServer
from tensorflow_ipu.config import reset_ipu_configuration
from test_keras_examples import CASES as KERAS_CASES

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


def run_example(name: str, models: Path) -> dict[str, Any]:
    """The script's variables. Its SavedModel is models/NAME/001."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", str(models / name / "001")])
        try:
            return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        finally:
            reset_ipu_configuration()


@pytest.mark.parametrize("name", CASES)
def test_example(name: str, models: Path) -> None:
    script = run_example(name, models)
    inputs, expected = CASES[name]
    (result,) = tf.nest.flatten(script["runtime_function"](tf.constant(inputs)))
    check(result.numpy(), expected)
    loaded = tf.saved_model.load(str(models / name / "001"))
    (output,) = loaded.signatures["serving_default"](tf.constant(inputs)).values()
    check(output.numpy(), expected)


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_all_are_served(models: Path) -> None:
    cases: dict[str, tuple[Any, list]] = {**CASES, **KERAS_CASES}
    for name in cases:
        if not (models / name).exists():
            run_example(name, models)
    config = models / "models.config"
    entries = "".join(f'config {{ name: "{name}" base_path: "{models / name}" }}' for name in cases)
    config.write_text(f"model_config_list {{ {entries} }}")
    with ModelServer(f"--model_config_file={config}") as server:
        for name, (inputs, expected) in cases.items():
            answer = ask(f"{server.rest}/v1/models/{name}:predict", {"inputs": inputs})
            check(np.array(answer["outputs"]), expected)
        answer = ask(f"{server.rest}/v1/models/single_step:predict", {"instances": [1.0, 2.0, 5.0, 7.0]})
        assert answer == {"predictions": [2.0, 4.0, 10.0, 14.0]}
        status = server.stop()
    assert status == 0
