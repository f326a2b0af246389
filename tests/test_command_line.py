"""The command `tensorflow_ipu`: inspect, doctor and bench."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from model_server import ModelServer
from tensorflow_ipu import serving
from tensorflow_ipu.cli import main
from tensorflow_ipu.cli.bench_point import Load, Point, Setting
from tensorflow_ipu.cli.bench_recommendation import recommend

QUICK = ("--seconds=0.05", "--warm-up-seconds=0.02")


@tf.function(input_signature=[tf.TensorSpec([4, 3], tf.float32, name="x")])
def double(x: tf.Tensor) -> tf.Tensor:
    return x * 2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`rows/1` has row batching; `plain/1` has not."""
    folder = tmp_path_factory.mktemp("models")
    serving.export_single_step(double, str(folder / "rows" / "1"), 7, dynamic_batch=True)
    serving.export_single_step(double, str(folder / "plain" / "1"), 3)
    return folder


@pytest.fixture
def executable(models: Path, tmp_path: Path) -> Path:
    """A copy that a test may harm."""
    return Path(shutil.copy(models / "plain" / "1" / "assets" / "executable.ipu", tmp_path))


def edit_header(path: Path, old: bytes, new: bytes) -> None:
    """Changes bytes of the header and makes its checksum right again."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[16:24])[0]
    header = content[64 : 64 + size]
    assert old in header and len(old) == len(new)
    header = header.replace(old, new)
    digest = hashlib.sha256(content[:32] + header).digest()
    path.write_bytes(content[:32] + digest + header + content[64 + size :])


def findings(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {finding["subject"]: finding for finding in report["executables"][0]["findings"]}


class Output:
    """Runs the command in this process and keeps what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        self._capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        self.out, self.err = self._capsys.readouterr()
        return status

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Output:
    return Output(capsys)


def test_it_is_a_program_that_needs_no_tensorflow_python_and_keeps_stderr_clean(models: Path) -> None:
    code = (
        "import sys; from tensorflow_ipu.cli import main; status = main(sys.argv[1:]); "
        "sys.exit(status or ('tensorflow' in sys.modules and 'TensorFlow was imported'))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", str(models / "rows")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "executable.ipu" in done.stdout


def test_wrong_command_lines_exit_with_2() -> None:
    for arguments in (
        [],
        ["nonsense"],
        ["inspect"],
        ["bench"],
        ["bench", "x", "--server", "y"],
        ["bench", "x", "--rate=0"],
    ):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2


# inspect


def test_inspect_tells_what_is_inside(models: Path, run: Output) -> None:
    assert run("inspect", models / "rows" / "1") == 0
    for text in (
        "7 iterations",
        "batches of 4",
        "float32[4,3]",
        "ipu2",
        "x86-64-v3",
        "2.21.0",
        "runtime hash",
    ):
        assert text in run.out


def test_inspect_gives_json_with_numbers_as_numbers(models: Path, run: Output) -> None:
    assert run("inspect", "--json", models / "rows" / "1" / "assets" / "executable.ipu") == 0
    report = run.json()["executables"][0]
    header = report["header"]
    assert header["iterations"] == 7
    assert header["infeeds"] == [{"name": "x", "type": "FLOAT32", "dims": [4, 3]}]
    assert header["dynamic_batch"] is True
    assert header["file_size"] == os.path.getsize(report["path"])
    code = header["stages"][0]["code"]
    content = Path(report["path"]).read_bytes()[code["offset"] : code["offset"] + code["size"]]
    assert hashlib.sha256(content).hexdigest() == code["sha256"]


def test_inspect_takes_the_largest_version_of_a_model(models: Path, tmp_path: Path, run: Output) -> None:
    shutil.copytree(models / "plain" / "1", tmp_path / "9")
    shutil.copytree(models / "rows" / "1", tmp_path / "10")
    assert run("inspect", "--json", tmp_path) == 0
    assert run.json()["executables"][0]["path"] == str(tmp_path / "10" / "assets" / "executable.ipu")


def test_inspect_says_why_there_is_nothing_to_inspect(tmp_path: Path, executable: Path, run: Output) -> None:
    assert run("inspect", tmp_path / "missing") == 1
    assert "does not exist" in run.err
    (tmp_path / "folder").mkdir()
    assert run("inspect", tmp_path / "folder") == 1
    assert "neither an executable" in run.err
    (tmp_path / "folder" / "saved_model.pb").touch()
    assert run("inspect", tmp_path / "folder") == 1
    assert "no executable among its assets" in run.err
    executable.write_bytes(executable.read_bytes()[:-1])
    assert run("inspect", executable) == 1
    assert "cut short" in run.err


# doctor


def test_doctor_finds_that_an_export_runs_where_it_was_made(models: Path, run: Output) -> None:
    assert run("doctor", "--json", models / "rows") == 0
    report = run.json()
    assert report["runs_here"]
    assert {finding["state"] for finding in findings(report).values()} <= {"ok", "note"}
    assert findings(report)["run"]["state"] == "ok"


def test_doctor_runs_nothing_when_told_so(models: Path, run: Output) -> None:
    assert run("doctor", "--json", "--no-run", models / "rows") == 0
    assert "run" not in findings(run.json())


@pytest.mark.parametrize(
    ("subject", "harm", "says"),
    [
        ("file", lambda path: path.write_bytes(path.read_bytes()[:-1]), "cut short"),
        (
            "TensorFlow",
            lambda path: edit_header(path, b"\x0a\x062.21.0", b"\x0a\x062.20.0"),
            "2.20.0; here: 2.21.0",
        ),
        ("TensorFlow build", lambda path: edit_header(path, b"v2.21.0-", b"v2.21.9-"), "v2.21.9-"),
        ("architecture", lambda path: edit_header(path, b"ipu2", b"ipu9"), "ipu9; here: ipu1, ipu2"),
        ("CPU", lambda path: edit_header(path, b"avx2", b"avx9"), "has not: avx9"),
    ],
)
def test_doctor_names_what_keeps_an_executable_from_running(
    executable: Path, run: Output, subject: str, harm: Callable[[Path], Any], says: str
) -> None:
    harm(executable)
    assert run("doctor", "--json", executable) == 1
    report = run.json()
    assert not report["runs_here"]
    assert findings(report)[subject]["state"] == "bad"
    assert says in findings(report)[subject]["text"]
    assert run("doctor", executable) == 1
    assert "It does not run here." in run.out


def test_doctor_follows_the_flag_that_skips_the_runtime_hash(
    executable: Path, run: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("inspect", "--json", executable) == 0
    found = run.json()["executables"][0]["header"]["build"]["runtime_hash"]
    edit_header(executable, found.encode(), b"0123456789abcdef")
    assert run("doctor", "--json", executable) == 1
    assert findings(run.json())["runtime hash"]["state"] == "bad"
    monkeypatch.setenv("TF_POPLAR_FLAGS", "--disable_poplar_version_check")
    assert run("doctor", "--json", executable) == 0
    assert findings(run.json())["runtime hash"]["state"] == "note"


# bench


def test_bench_measures_every_combination_and_recommends_one(models: Path, run: Output) -> None:
    settings = ("--iterations=2,5", "--replicas=1,2", "--max-wait-us=0,100")
    assert run("bench", models / "rows", "--json", "--concurrency=1,8", "--rows=1,3", *settings, *QUICK) == 0
    report = run.json()
    points = report["points"]
    seen = {
        (
            *(point["setting"][name] for name in ("iterations", "replicas", "max_wait_us")),
            *(point["load"][name] for name in ("concurrency", "rows")),
        )
        for point in points
    }
    assert len(points) == len(seen) == 32
    for point in points:
        assert point["calls"] > 0 and point["failed"] == 0
        assert 0 < point["p50_us"] <= point["p99_us"] <= point["max_us"]
        assert 0 < point["fill"] <= 1
        assert point["setting"]["batch"] == 4
    assert any("Recommended for throughput" in line for line in report["recommendation"])


def test_bench_prints_a_table_for_people(models: Path, run: Output) -> None:
    assert run("bench", models / "plain", "--concurrency=2", *QUICK) == 0
    for text in ("batch", "p99 ms", "fill", "100%", "Recommended for throughput", "--ipu_replicas="):
        assert text in run.out


def test_bench_makes_calls_at_a_rate(models: Path, run: Output) -> None:
    assert run("bench", models / "rows", "--json", "--rate=200", "--replicas=1", "--seconds=1", QUICK[1]) == 0
    (point,) = run.json()["points"]
    assert 100 < point["calls"] < 300


def test_bench_refuses_rows_without_row_batching(models: Path, run: Output) -> None:
    assert run("bench", models / "plain", "--rows=2", *QUICK) == 1
    assert "dynamic_batch" in run.err


def test_bench_shows_a_bar_when_asked(models: Path, run: Output) -> None:
    assert run("bench", models / "plain", "--concurrency=1", "--progress", *QUICK) == 0
    assert "100%" in run.err
    assert run("bench", models / "plain", "--concurrency=1", *QUICK) == 0
    assert run.err == ""


def test_bench_writes_a_plot(models: Path, tmp_path: Path, run: Output) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.png"
    assert run("bench", models / "rows", "--concurrency=1,4", "--plot", plot, *QUICK) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert run("bench", models / "rows", "--plot", tmp_path / "missing" / "plot.png", *QUICK) == 1
    assert "does not exist" in run.err


def test_interrupt_ends_a_measurement(models: Path) -> None:
    command = [sys.executable, "-m", "tensorflow_ipu.cli", "bench", str(models / "plain"), "--seconds=3600"]
    process = subprocess.Popen(
        [*command, "--progress"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore the signal, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    while process.stderr.read(1) != "[":  # the bar: it measures
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.stderr.read()
    assert process.wait() == 130


def point(
    rows_per_second: float, p99_us: float, replicas: int = 1, failed: int = 0, rate: float | None = None
) -> Point:
    setting = Setting("m", batch=4, iterations=8, timeout_us=5000, replicas=replicas, max_wait_us=0)
    load = Load(rate=rate) if rate else Load(concurrency=1)
    return Point(
        setting, load, 10, failed, "", rows_per_second, rows_per_second, p99_us / 2, p99_us, p99_us, p99_us, 1
    )


def test_recommendation_takes_the_lower_latency_among_equal_throughputs() -> None:
    lines = list(recommend([point(1000, 900), point(990, 100, replicas=2), point(500, 50)], None))
    assert "replicas 2" in lines[0] and "--ipu_replicas=2" in lines[1]
    assert "Recommended for latency" in lines[2] and "replicas 1" in lines[2]


def test_recommendation_leaves_out_failures_overload_and_what_is_too_slow() -> None:
    overloaded = point(100, 10, rate=5000)
    lines = list(recommend([point(9000, 10, failed=1), overloaded, point(8000, 9000), point(10, 100)], 1.0))
    assert "10 rows/s" in lines[0]
    assert "nothing" in next(recommend([overloaded], None))


# A server


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ModelServer]:
    running = ModelServer("--model_name=rows", f"--model_base_path={models / 'rows'}")
    yield running
    running.stop()


def test_bench_drives_a_server_over_grpc(server: ModelServer, run: Output) -> None:
    common = ("bench", "--server", server.target, "--model", "rows", "--json", *QUICK)
    assert run(*common, "--concurrency=1,4", "--rows=2") == 0
    points = run.json()["points"]
    assert [point["load"]["concurrency"] for point in points] == [1, 4]
    assert all(point["calls"] > 0 and point["failed"] == 0 for point in points)
    assert run(*common, "--rate=100", "--seconds=0.5") == 0
    assert run.json()["points"][0]["calls"] > 10


def test_bench_reads_the_fill_from_a_servers_statistics(server: ModelServer, run: Output) -> None:
    common = ("bench", "--server", server.target, "--model", "rows", "--json", "--concurrency=1", *QUICK)
    assert run(*common, "--rows=2") == 0
    assert run.json()["points"][0]["fill"] is None
    # The program takes four rows at a time, and nobody else calls.
    assert run(*common, "--rows=8", "--rest", server.rest) == 0
    assert run.json()["points"][0]["fill"] == 1
    assert run(*common, "--rest", "http://127.0.0.1:1") == 1
    assert "/v1/models/rows/stats" in run.err


def test_bench_says_what_is_wrong_with_a_server_or_model(server: ModelServer, run: Output) -> None:
    assert run("bench", "--server", server.target, "--model", "other") == 1
    assert "NOT_FOUND" in run.err
    assert run("bench", "--server", server.target, "--model", "rows", "--signature=other") == 1
    assert "serving_default" in run.err
    assert run("bench", "--server", server.target, "--model", "rows", "--replicas=2") == 1
    assert "--ipu_" in run.err


def test_doctor_asks_a_server(server: ModelServer, models: Path, run: Output) -> None:
    assert run("doctor", "--server", f"{server.rest}/v1/models/rows", models / "rows") == 0
    assert "AVAILABLE" in run.out
    assert run("doctor", "--server", f"{server.rest}/v1/models/other", models / "rows") == 1
    assert "404" in run.out
