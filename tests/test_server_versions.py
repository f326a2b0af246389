"""Versions of a model come, go, and fail to load, while the server serves."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import tensorflow as tf
from model_server import ModelServer
from served_models import predict, request, states, wait_until, write_adder
from tensorflow.python.saved_model import signature_def_utils


def flags(base: Path, *more: str) -> list[str]:
    return [f"--model_base_path={base}", "--model_name=m", *more]


def test_serves_the_largest_version_and_ignores_what_is_none(tmp_path: Path) -> None:
    write_adder(tmp_path, 2, 2.0)
    write_adder(tmp_path, 10, 10.0)
    (tmp_path / "notes").mkdir()
    (tmp_path / "99").write_text("no folder")
    with ModelServer(*flags(tmp_path)) as server:
        assert predict(server.rest, "m", [1.0]) == (200, {"predictions": [11.0]})
        assert states(server.rest, "m") == {10: ("AVAILABLE", "")}
        assert predict(server.rest, "m", [1.0], "/versions/2")[0] == 404


def test_an_upgrade_loses_no_request(tmp_path: Path) -> None:
    write_adder(tmp_path, 1, 1.0)
    with ModelServer(*flags(tmp_path)) as server:
        ended = threading.Event()
        wrong: list[object] = []
        seen: set[float] = set()

        def call() -> None:
            while not ended.is_set():
                status, answer = predict(server.rest, "m", [0.0])
                if status == 200:
                    seen.add(answer["predictions"][0])
                else:
                    wrong.append((status, answer))

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for version in (2, 3):
            write_adder(tmp_path, version, float(version))
            expected = {"predictions": [float(version)]}
            wait_until(lambda e=expected: predict(server.rest, "m", [0.0])[1] == e, f"version {version}")
        # The old one goes when the new one is served.
        wait_until(lambda: states(server.rest, "m").get(2, ("",))[0] == "END", "the end of version 2")
        ended.set()
        for caller in callers:
            caller.join()
    assert wrong == []
    assert seen >= {2.0, 3.0}


def test_a_removed_version_gives_way_to_the_one_before(tmp_path: Path) -> None:
    write_adder(tmp_path, 1, 1.0)
    write_adder(tmp_path, 2, 2.0)
    with ModelServer(*flags(tmp_path)) as server:
        assert predict(server.rest, "m", [0.0])[1] == {"predictions": [2.0]}
        shutil.rmtree(tmp_path / "2")
        wait_until(lambda: predict(server.rest, "m", [0.0])[1] == {"predictions": [1.0]}, "version 1")


def test_a_model_without_versions_is_taken_out_of_service(tmp_path: Path) -> None:
    write_adder(tmp_path, 1, 1.0)
    with ModelServer(*flags(tmp_path)) as server:
        shutil.rmtree(tmp_path / "1")
        wait_until(lambda: predict(server.rest, "m", [0.0])[0] == 404, "the end of the model")
        wait_until(lambda: states(server.rest, "m") == {1: ("END", "")}, "its state")


def test_a_version_that_fails_to_load_leaves_the_old_one_and_its_reason(tmp_path: Path) -> None:
    write_adder(tmp_path, 1, 1.0)
    broken = write_adder(tmp_path / "aside", 2, 2.0)
    graph = broken / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:100])
    with ModelServer(*flags(tmp_path)) as server:
        broken.rename(tmp_path / "2")
        wait_until(lambda: states(server.rest, "m").get(2, ("",))[0] == "END", "the failure of version 2")
        state = states(server.rest, "m")
        assert state[1] == ("AVAILABLE", "")
        assert "saved_model.pb" in state[2][1] or "SavedModel" in state[2][1]
        assert predict(server.rest, "m", [0.0]) == (200, {"predictions": [1.0]})
        # When it is repaired it is served.
        shutil.rmtree(tmp_path / "2")
        write_adder(tmp_path, 2, 2.0)
        wait_until(lambda: predict(server.rest, "m", [0.0])[1] == {"predictions": [2.0]}, "version 2")


def test_a_signature_that_cannot_be_called_fails_only_itself(tmp_path: Path) -> None:
    tf1 = tf.compat.v1
    info = tf1.saved_model.utils.build_tensor_info
    with tf1.Graph().as_default(), tf1.Session() as session:
        sparse = tf1.sparse_placeholder(tf.float32, [None, 3])
        dense = tf1.placeholder(tf.float32, [None])
        builder = tf1.saved_model.Builder(str(tmp_path / "1"))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "serving_default": signature_def_utils.build_signature_def(
                    {"s": info(sparse)},
                    {"y": info(tf.sparse.reduce_sum(sparse, 1))},
                    "tensorflow/serving/predict",
                ),
                # As old exporters write it.
                "without_method_name": signature_def_utils.build_signature_def(
                    {"x": info(dense)}, {"y": info(dense * 2.0)}, None
                ),
            },
        )
        builder.save()
    with ModelServer(*flags(tmp_path)) as server:
        assert predict(server.rest, "m", [1.0])[0] >= 400
        url = f"{server.rest}/v1/models/m:predict"
        answer = request(url, {"signature_name": "without_method_name", "instances": [1.5]})
        assert answer == (200, {"predictions": [3.0]})


def test_versions_are_looked_for_once_or_never_when_polling_is_off(tmp_path: Path) -> None:
    write_adder(tmp_path, 1, 1.0)
    with ModelServer(*flags(tmp_path, "--file_system_poll_wait_seconds=-1")) as server:
        assert predict(server.rest, "m", [0.0])[0] == 404
    with ModelServer(*flags(tmp_path, "--file_system_poll_wait_seconds=0")) as server:
        assert predict(server.rest, "m", [0.0])[0] == 200


def test_resources_are_preserved_by_unloading_first(tmp_path: Path) -> None:
    write_adder(tmp_path, 1, 1.0)
    with ModelServer(*flags(tmp_path, "--version_transition=resources")) as server:
        write_adder(tmp_path, 2, 2.0)
        wait_until(lambda: predict(server.rest, "m", [0.0])[1] == {"predictions": [2.0]}, "version 2")
        log = server.log()
    assert log.index("Unloaded servable version {name: m version: 1}") < log.index(
        "Successfully loaded servable version {name: m version: 2}"
    )
