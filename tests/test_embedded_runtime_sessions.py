"""The embedded runtime in TF1 graph mode, and many sessions, threads and engines at once."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ipu import serving
from tensorflow_ipu.config import IPUConfig, reset_ipu_configuration
from tensorflow_ipu.embedded_runtime import (
    embedded_runtime_call,
    embedded_runtime_start,
    embedded_runtime_stop,
)

SIGNATURE = [tf.TensorSpec([4], tf.float32)]
SESSIONS, THREADS, CALLS = 4, 4, 1000


def double(x: tf.Tensor) -> tf.Tensor:
    return x * 2


def add_three(x: tf.Tensor) -> tf.Tensor:
    return x + 3


@pytest.fixture(scope="module", autouse=True)
def two_ipus() -> Iterator[None]:
    config = IPUConfig()
    config.auto_select_ipus = 2
    config.configure_ipu_system()
    yield
    reset_ipu_configuration()


@pytest.fixture(scope="module", params=["single step", "pipeline"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Callable]:
    """The path of an executable, and what it computes."""
    directory = str(tmp_path_factory.mktemp("export") / "model")
    if request.param == "single step":
        serving.export_single_step(double, directory, 10, SIGNATURE)
        compute = double
    else:
        serving.export_pipeline([double, add_three], directory, 10, predict_step_signature=SIGNATURE)
        compute = lambda x: 2 * x + 3  # noqa: E731
    return os.path.join(directory, "assets", "executable.ipu"), compute


def test_a_graph_and_a_session(model: tuple[str, Callable]) -> None:
    executable, compute = model
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [4])
        context = embedded_runtime_start(executable, [], "graph mode")
        (result,) = embedded_runtime_call([x], context)
        assert result.shape == [4]
        assert session.run(context.start_output()) == 0
        for value in range(16):
            feed = np.full([4], value, np.float32)
            np.testing.assert_array_equal(session.run(result, {x: feed}), compute(feed))


def test_many_sessions_threads_and_engines(model: tuple[str, Callable]) -> None:
    executable, compute = model
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, [4])
        results = [
            embedded_runtime_call([x], embedded_runtime_start(executable, [], f"engine {number}"))[0]
            for number in range(2)
        ]
    sessions = [tf.compat.v1.Session(graph=graph) for _ in range(SESSIONS)]
    wrong: list[object] = []

    def work(session: tf.compat.v1.Session, number: int) -> None:
        try:
            run = session.make_callable(results, [x])
            for call in range(CALLS):  # each calls both engines
                feed = np.array([number, call, number + call, number * call], np.float32)
                for result in run(feed):
                    if not np.array_equal(result, compute(feed)):
                        wrong.append((number, call, result))
        except Exception as error:
            wrong.append(error)

    threads = [
        threading.Thread(target=work, args=(session, index * THREADS + thread))
        for index, session in enumerate(sessions)
        for thread in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session in sessions:
        session.close()
    assert wrong == []


def test_threads_on_one_eager_engine(model: tuple[str, Callable], request: pytest.FixtureRequest) -> None:
    executable, compute = model
    context = embedded_runtime_start(executable, [], request.node.name)
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for call in range(100):
                feed = np.full([4], number * 1000 + call, np.float32)
                (result,) = embedded_runtime_call([feed], context)
                if not np.array_equal(result, compute(feed)):
                    wrong.append((number, call))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    embedded_runtime_stop(context)
    assert wrong == []


def test_a_saved_model_in_a_session(tmp_path: Path) -> None:
    directory = str(tmp_path / "model")
    serving.export_single_step(double, directory, 10, SIGNATURE)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], directory)
        signature = loaded.signature_def["serving_default"]
        output = session.run(signature.outputs["output_0"].name, {signature.inputs["x"].name: [1, 2, 5, 7]})
        assert output.tolist() == [2, 4, 10, 14]
