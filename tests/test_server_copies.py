"""Versions that are seen while they are copied, replaced or removed.

Each is served when it is whole, and until then the one before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from export_models import serving
from model_server import ModelServer
from served_models import predict, request, states, wait_until, write_adder, write_vocabulary, write_warmup
from tensorflow.core.protobuf import saved_model_pb2

DATA = "variables/variables.data-00000-of-00001"


def flags(base: Path, *more: str) -> list[str]:
    return [f"--model_base_path={base}", "--model_name=m", *more]


def files_of(version: Path) -> list[str]:
    return sorted(str(path.relative_to(version)) for path in version.rglob("*") if path.is_file())


def answer(server: ModelServer, x: object = 0.0) -> tuple[int, object]:
    status, body = predict(server.rest, "m", [x])
    return status, body.get("predictions", body) if isinstance(body, dict) else body


def state(server: ModelServer, version: int) -> tuple[str, str]:
    return states(server.rest, "m").get(version, ("", ""))


def write_exported(base: Path, version: int, factor: float) -> Path:
    aside = base / f"unfinished-{version}"
    signature = [tf.TensorSpec([1], tf.float32, name="x")]
    serving.export_single_step(
        lambda x: x * factor, str(aside), iterations=4, predict_step_signature=signature
    )
    return aside.rename(base / str(version))


def write_in_text(base: Path, version: int, addend: float) -> Path:
    """With saved_model.pbtxt in place of saved_model.pb."""
    path = write_adder(base, version, addend)
    graph = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    (path / "saved_model.pbtxt").write_text(str(graph))
    (path / "saved_model.pb").unlink()
    return path


def write_warm(base: Path, version: int, addend: float) -> Path:
    path = write_adder(base, version, addend)
    write_warmup(path, [1.0])
    return path


# Writes a version that answers another value to 0.0 (1.0 for the exported one) than version 1.
WRITERS: dict[str, Callable[[Path, int], Path]] = {
    "adder": lambda base, version: write_adder(base, version, 10.0 * version),
    "text": lambda base, version: write_in_text(base, version, 10.0 * version),
    "warm-up": lambda base, version: write_warm(base, version, 10.0 * version),
    "vocabulary": lambda base, version: write_vocabulary(base, version, ["other", f"word {version}"]),
    "exported": lambda base, version: write_exported(base, version, 10.0 * version),
}


@pytest.mark.parametrize("kind", list(WRITERS))
@pytest.mark.parametrize("backwards", [False, True])
def test_a_version_that_is_copied_file_by_file_is_taken_when_it_is_whole(
    tmp_path: Path, kind: str, backwards: bool
) -> None:
    base, aside = tmp_path / "m", tmp_path / "aside"
    aside.mkdir()
    base.mkdir()
    WRITERS[kind](base, 1)
    source = WRITERS[kind](aside, 2)
    needed = [name for name in files_of(source) if name != "fingerprint.pb"]
    with ModelServer(*flags(base)) as server:
        before = answer(server, 1.0)
        assert before[0] == 200
        for name in sorted(needed, reverse=backwards):
            # First half of it, then all.
            target = base / "2" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            whole = (source / name).read_bytes()
            target.write_bytes(whole[: len(whole) // 2])
            wait_until(lambda: state(server, 2)[1] != "", "a look at what there is of version 2")
            assert state(server, 2)[0] in ("START", "END")
            assert answer(server, 1.0) == before
            target.write_bytes(whole)
        wait_until(lambda: state(server, 2)[0] == "AVAILABLE", "version 2")
        after = answer(server, 1.0)
        assert after[0] == 200 and after != before
        wait_until(lambda: state(server, 1)[0] == "END", "the end of version 1")


def test_the_status_says_what_a_version_waits_for(tmp_path: Path) -> None:
    write_adder(tmp_path / "m", 1, 1.0)
    version = write_adder(tmp_path / "aside", 2, 2.0)
    data = (version / DATA).read_bytes()
    (version / DATA).write_bytes(data[:3])
    with ModelServer(*flags(tmp_path / "m")) as server:
        version.rename(tmp_path / "m" / "2")
        expected = f"waits for {DATA} (has 3 of {len(data)} bytes)"
        wait_until(lambda: state(server, 2) == ("START", expected), "the reason")
        assert f"Servable version {{name: m version: 2}} is not loaded yet: it {expected}" in server.log()
        (tmp_path / "m" / "2" / DATA).unlink()
        wait_until(lambda: state(server, 2) == ("START", f"waits for {DATA}"), "another reason")
        assert answer(server) == (200, [1.0])
        (tmp_path / "m" / "2" / DATA).write_bytes(data)
        wait_until(lambda: answer(server) == (200, [2.0]), "version 2")


@pytest.mark.parametrize("file", ["saved_model.pb", DATA])
def test_a_start_during_a_copy_serves_the_version_before(tmp_path: Path, file: str) -> None:
    write_adder(tmp_path, 1, 1.0)
    write_adder(tmp_path, 2, 2.0)
    version = write_adder(tmp_path, 3, 3.0)
    whole = (version / file).read_bytes()
    (version / file).write_bytes(whole[: len(whole) // 2])
    with ModelServer(*flags(tmp_path)) as server:
        assert answer(server) == (200, [2.0])
        assert set(states(server.rest, "m")) == {2, 3}
        (version / file).write_bytes(whole)
        wait_until(lambda: answer(server) == (200, [3.0]), "version 3")
        wait_until(lambda: state(server, 2)[0] == "END", "the end of version 2")


@pytest.mark.parametrize("transition", ["availability", "resources"])
def test_a_copy_with_temporary_names_is_taken_when_the_last_is_renamed(
    tmp_path: Path, transition: str
) -> None:
    write_adder(tmp_path / "m", 1, 1.0)
    source = write_adder(tmp_path / "aside", 2, 2.0)
    with ModelServer(*flags(tmp_path / "m", f"--version_transition={transition}")) as server:
        # As rsync does.
        for name in files_of(source):
            target = tmp_path / "m" / "2" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.Xa81bq")
            shutil.copy2(source / name, temporary)
            wait_until(lambda: state(server, 2)[1] != "", "a look")
            assert answer(server) == (200, [1.0])
            temporary.rename(target)
        wait_until(lambda: answer(server) == (200, [2.0]), "version 2")


def test_a_version_that_is_removed_piece_by_piece_is_served_until_its_folder_goes(tmp_path: Path) -> None:
    write_adder(tmp_path, 1, 1.0)
    write_vocabulary(tmp_path, 2, ["two"])
    with ModelServer(*flags(tmp_path)) as server:
        assert answer(server) == (200, ["two"])
        for name in files_of(tmp_path / "2"):
            (tmp_path / "2" / name).unlink()
            assert answer(server) == (200, ["two"])
        shutil.rmtree(tmp_path / "2")
        wait_until(lambda: answer(server) == (200, [1.0]), "version 1")


def test_an_asset_that_grows_after_the_load_is_loaded_again(tmp_path: Path) -> None:
    version = write_vocabulary(tmp_path, 1, ["zero", "one", "two"])
    words = version / "assets" / "words.txt"
    words.write_text("zero\n")
    with ModelServer(*flags(tmp_path)) as server:
        assert answer(server, 2.0) == (200, ["?"])
        with words.open("a") as file:
            file.write("one\ntwo\n")
        wait_until(lambda: answer(server, 2.0) == (200, ["two"]), "the whole asset")
        assert answer(server, 0.0) == (200, ["zero"])
        # What says itself whether it is whole is read once.
        loaded = server.log().count("Successfully loaded")
        os.utime(version / "saved_model.pb")
        write_adder(tmp_path / "other", 1, 1.0)
        assert server.log().count("Successfully loaded") == loaded


def test_a_model_without_variables_needs_no_folder_for_them(tmp_path: Path) -> None:
    class Doubler(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": 2.0 * x}

    module = Doubler()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.serve})
    shutil.rmtree(tmp_path / "1" / "variables")
    with ModelServer(*flags(tmp_path)) as server:
        assert answer(server, 3.0) == (200, [6.0])


def test_a_version_that_never_becomes_whole_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with ModelServer(*flags(tmp_path)) as server:
        assert states(server.rest, "m") == {1: ("START", "waits for saved_model.pb")}
        assert request(f"{server.rest}/v1/models/m/metadata")[0] == 404
        # Nothing waits for it when it goes, either.
        (tmp_path / "1").rmdir()
        write_adder(tmp_path, 2, 2.0)
        wait_until(lambda: answer(server) == (200, [2.0]), "version 2")


@pytest.mark.parametrize("kind", ["adder", "exported"])
def test_urls_of_files_are_paths(tmp_path: Path, kind: str) -> None:
    base = tmp_path / "m"
    base.mkdir()
    WRITERS[kind](base, 1)
    (tmp_path / "aside").mkdir()
    repaired = WRITERS[kind](tmp_path / "aside", 2)
    with ModelServer(f"--model_base_path=file://{base}", "--model_name=m") as server:
        before = answer(server, 1.0)
        assert before[0] == 200
        (base / "2").mkdir()
        (base / "2" / "saved_model.pb").write_bytes((repaired / "saved_model.pb").read_bytes()[:50])
        wait_until(lambda: state(server, 2)[0] == "END", "the failure of version 2")
        shutil.rmtree(base / "2")
        repaired.rename(base / "2")
        wait_until(lambda: state(server, 2)[0] == "AVAILABLE", "version 2")
        assert answer(server, 1.0) != before


def test_of_two_folders_of_one_version_the_shortest_name_counts(tmp_path: Path) -> None:
    for name, addend in (("001", 1.0), ("1", 2.0), ("01", 3.0)):
        write_adder(tmp_path / "aside" / name, 1, addend)
        (tmp_path / "aside" / name / "1").rename(tmp_path / name)
    shutil.rmtree(tmp_path / "aside")
    with ModelServer(*flags(tmp_path)) as server:
        assert answer(server) == (200, [2.0])
        write_adder(tmp_path, 2, 5.0)
        wait_until(lambda: answer(server) == (200, [5.0]), "a later look")
        said = [line for line in server.log().splitlines() if "duplicates" in line]
    assert len(said) == 2 and all("1 is served" in line for line in said)
