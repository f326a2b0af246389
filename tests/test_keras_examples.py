"""The examples of Keras models and of TensorFlow 1 programs: each exports, runs, and is served over REST."""

import json
import os
import runpy
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from model_server import ModelServer
from tensorflow_ipu.config import reset_ipu_configuration

EXAMPLES = Path(__file__).parent.parent / "examples"

LEFT = [[1.0, -2.0, 5.0, 7.0]]
RIGHT = [[0.0, 1.0, 2.0, -1.0]]
WORDS = [["graphcore", "red", "blue", "graphcore", "green", "yellow"]]

# name: (inputs by name, results that must be equal, None for random ones)
CASES: dict[str, tuple[dict[str, list], list]] = {
    "keras_functional": ({"input_1": LEFT, "input_2": RIGHT}, [1, -1, 7, 6]),
    "keras_pipeline": ({"input_1": LEFT, "input_2": RIGHT}, [0, -1, 12, -8]),
    "keras_functional_device_steps": ({"input_1": LEFT, "input_2": RIGHT}, [19]),
    "keras_functional_cpu_steps": ({"left": WORDS, "right": WORDS}, [2, None, None, 2, None, None]),
    "keras_pipeline_device_steps": ({"input_1": LEFT, "input_2": RIGHT}, [23]),
    "keras_pipeline_cpu_steps": ({"left": WORDS, "right": WORDS}, [2, None, None, 2, None, None]),
}


def check(results: np.ndarray, expected: list) -> None:
    results = np.reshape(results, [-1])
    assert len(results) == len(expected)
    for result, value in zip(results, expected, strict=True):
        assert result == value if value is not None else np.isfinite(result)


@pytest.mark.parametrize("name", CASES)
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / name / "001"
    monkeypatch.setattr(sys, "argv", [f"{name}.py", str(directory)])
    try:
        script = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    finally:
        reset_ipu_configuration()
    inputs, expected = CASES[name]
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    (result,) = tf.nest.flatten(script["runtime_function"](*tensors.values()))
    check(result.numpy(), expected)
    loaded = tf.saved_model.load(str(directory))
    (output,) = loaded.signatures["serving_default"](**tensors).values()
    check(output.numpy(), expected)

    with ModelServer("--model_name=my_model", f"--model_base_path={directory.parent}") as server:
        url = f"{server.rest}/v1/models/my_model:predict"
        by_columns = predict(url, {"inputs": inputs})
        by_rows = predict(url, {"instances": [{key: rows[0] for key, rows in inputs.items()}]})
    check(np.float32(by_columns["outputs"]), expected)
    if np.shape(by_columns["outputs"]):  # a scalar has no rows
        check(np.float32(by_rows["predictions"]), expected)


def predict(url: str, body: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)


def test_graph_mode_example(tmp_path: Path) -> None:
    """In a process of its own: it turns TensorFlow 2 off."""
    executable = tmp_path / "application.poplar_exec"
    program = (
        "import runpy, sys; import numpy as np;"
        f"sys.argv = ['example', {str(executable)!r}];"
        f"script = runpy.run_path({str(EXAMPLES / 'embedded_runtime_graph_mode.py')!r}, run_name='__main__');"
        "np.testing.assert_array_equal(script['results'], [[2.0 * i] * 4 for i in range(16)])"
    )
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert executable.stat().st_size > 0
