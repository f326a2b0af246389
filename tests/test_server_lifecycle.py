"""How the server starts, ends, and what it logs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from model_server import ModelServer, channel, server_binary, threads
from served_models import Gate, HangingLoad, predict, request, states, wait_until, write_adder
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([server_binary(), *flags], capture_output=True, text=True, timeout=120)


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


def health(server: ModelServer, service: str = "") -> bytes | grpc.StatusCode:
    message = b"" if not service else b"\x0a" + bytes([len(service)]) + service.encode()
    with channel(server) as connection:
        try:
            return connection.unary_unary(HEALTH_CHECK)(message, timeout=30)
        except grpc.RpcError as error:
            return error.code()


@pytest.fixture(scope="module")
def adder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("adder")
    write_adder(base, 1, 2.0)
    return base


def test_help_and_version_are_printed_alone() -> None:
    help_text = run("--help")
    assert help_text.returncode == 0
    assert "--rest_api_port=0" in help_text.stdout
    assert help_text.stderr == ""
    version = run("--version")
    assert version.returncode == 0
    assert re.search(r"^TensorFlow Library: 2\.21\.0$", version.stdout, re.MULTILINE)
    assert version.stderr == ""


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--rest_port=1"], "Did you mean --rest_api_port?"),
        (["--port=x"], '--port: found "x", expected a whole number'),
        ([], "Neither --model_base_path nor --model_config_file"),
        (["--model_base_path=/m", "--port=0", "--rest_api_port=0"], "nobody could reach the server"),
        (["--model_base_path=/m", "--load_timeout_seconds=-1"], "--load_timeout_seconds: found -1"),
        (["--model_config_file=/does/not/exist"], "/does/not/exist"),
        (["--model_base_path=/m", "--port=7", "--rest_api_port=7"], "are both 7"),
        (["--model_base_path=/m", "--use_alts_credentials"], "ALTS is not supported"),
        (["--model_base_path=/m", "--mixed_precision=int4"], "--mixed_precision"),
        (["--model_base_path=/m", "--batching_parameters_file=/b"], "without --enable_batching"),
        (["--model_base_path=/m", "--ipu_replicas=1000000"], "--ipu_replicas: found 1000000"),
        (["--model_base_path=/m", "--version_transition=fast"], "--version_transition"),
        (
            ["--model_base_path=/m", "--tensorflow_intra_op_parallelism=1000000"],
            "--tensorflow_intra_op_parallelism: found 1000000, expected 0 to 4096",
        ),
        (
            ["--model_base_path=/m", "--tensorflow_inter_op_parallelism=-2"],
            "--tensorflow_inter_op_parallelism",
        ),
        (["--model_base_path=/m", "--tensorflow_session_parallelism=-1"], "--tensorflow_session_parallelism"),
    ],
)
def test_a_wrong_command_line_ends_with_its_reason(flags: list[str], reason: str) -> None:
    ended = run(*flags)
    assert ended.returncode == 1
    assert reason in ended.stderr


def test_a_port_in_use_ends_with_its_reason(adder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for flags in ([f"--port={port}"], ["--port=0", f"--rest_api_port={port}"]):
            ended = run(f"--model_base_path={adder}", *flags)
            assert ended.returncode == 1
            assert re.search(f"Failed to start server. Error: .*{port}", ended.stderr)


def test_ports_chosen_by_the_system_are_written_to_a_file(adder: Path, tmp_path: Path) -> None:
    ports = tmp_path / "ports.json"
    process = subprocess.Popen(
        [
            server_binary(),
            "--port=-1",
            "--rest_api_port=-1",
            f"--port_file={ports}",
            f"--model_base_path={adder}",
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
    )
    try:
        wait_until(ports.exists, "the port file")
        chosen = json.loads(ports.read_text())
        assert predict(f"http://127.0.0.1:{chosen['rest']}", "default", [1.0]) == (
            200,
            {"predictions": [3.0]},
        )
        with grpc.insecure_channel(f"127.0.0.1:{chosen['grpc']}") as connection:
            grpc.channel_ready_future(connection).result(30)
    finally:
        process.send_signal(signal.SIGINT)
        log = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert f"Running gRPC ModelServer at 0.0.0.0:{chosen['grpc']} ..." in log
    assert f"Exporting HTTP/REST API at:localhost:{chosen['rest']} ..." in log
    # One line for each event, and none of TensorFlow's.
    events = [re.sub(r"^\S+ \S+: ", "", line) for line in log.splitlines()]
    assert [event.split()[:2] for event in events] == [
        ["I", "Successfully"],
        ["I", "Exporting"],
        ["I", "Running"],
        ["I", "Entering"],
        ["I", "Signal"],
        ["I", "Unloaded"],
        ["I", "Ended."],
    ]


def test_starts_without_a_model_and_serves_it_when_it_comes(tmp_path: Path) -> None:
    base = tmp_path / "later"
    with ModelServer(f"--model_base_path={base}", "--model_name=later") as server:
        assert predict(server.rest, "later", [1.0])[0] == 404
        assert health(server) == NOT_SERVING
        base.mkdir()
        write_adder(base, 1, 1.0)
        wait_until(lambda: predict(server.rest, "later", [1.0])[0] == 200, "the model")
        wait_until(lambda: health(server) == SERVING, "good health")
        assert health(server, "later") == SERVING
        assert health(server, "other") == grpc.StatusCode.NOT_FOUND


def test_sigterm_lets_running_requests_finish(tmp_path: Path) -> None:
    gate = Gate(tmp_path, 1)
    server = ModelServer(f"--model_base_path={tmp_path}", "--model_name=gate")
    answers: list[tuple[int, object]] = []
    call = threading.Thread(target=lambda: answers.append(predict(server.rest, "gate", [1.5])))
    call.start()
    gate.wait_for_call()
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: request(f"{server.rest}/v1/models/gate")[0] == 0, "refused connections")
    assert server.process.poll() is None
    assert answers == []
    gate.release_call()
    call.join(60)
    assert answers == [(200, {"predictions": [1.5]})]
    # Not stop(): a second signal would end it at once.
    assert server.process.wait(60) == 0


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    gate = Gate(tmp_path, 1)
    server = ModelServer(f"--model_base_path={tmp_path}", "--model_name=gate")
    answers: list[tuple[int, object]] = []
    call = threading.Thread(target=lambda: answers.append(predict(server.rest, "gate", [1.5])))
    call.start()
    gate.wait_for_call()
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "finishing running requests" in server.log(), "the first signal")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 128 + signal.SIGTERM
    call.join(60)
    assert answers == [(0, None)]


def test_requests_that_outlast_the_grace_do_not_keep_the_server(tmp_path: Path) -> None:
    gate = Gate(tmp_path, 1)
    server = ModelServer(f"--model_base_path={tmp_path}", "--model_name=gate", "--shutdown_grace_seconds=0")
    answers: list[tuple[int, object]] = []
    call = threading.Thread(target=lambda: answers.append(predict(server.rest, "gate", [1.5])))
    call.start()
    gate.wait_for_call()
    assert server.stop() == 128 + signal.SIGTERM
    call.join(60)
    assert answers == [(0, None)]
    assert "Requests still run" in server.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("listening", [False, True])
def test_a_signal_is_heard_while_a_load_hangs(
    tmp_path: Path, number: signal.Signals, listening: bool
) -> None:
    gate = HangingLoad(tmp_path, 1)
    process = subprocess.Popen(
        [
            server_binary(),
            "--port=-1",
            f"--model_base_path={tmp_path}",
            "--model_name=m",
            f"--listen_while_loading={listening}".lower(),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        gate.wait_for_call()
        if listening:
            while "Entering the event loop" not in process.stderr.readline():
                assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == 0
        assert ("before the server listens" in process.stderr.read()) != listening
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_signal_is_heard_before_anything_else(adder: Path) -> None:
    process = subprocess.Popen([server_binary(), "--port=-1", f"--model_base_path={adder}"])
    try:
        status = Path(f"/proc/{process.pid}/status")
        # The program's first code blocks both, and a thread of its own waits for them.
        mask = 1 << signal.SIGTERM - 1 | 1 << signal.SIGINT - 1

        def blocked() -> bool:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            return lines["Name"].strip() == "tensorflow_mode" and int(lines["SigBlk"], 16) & mask == mask

        wait_until(blocked, "the server's first code")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("flag", "others"),
    [
        ("model_config_file", []),
        ("monitoring_config_file", ["--rest_api_port=-1"]),
        ("ssl_config_file", []),
        ("platform_config_file", []),
        ("tensorflow_session_config_file", []),
        ("batching_parameters_file", ["--enable_batching"]),
    ],
)
def test_a_file_of_the_command_line_is_a_regular_file(
    adder: Path, tmp_path: Path, flag: str, others: list[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ended = run("--port=-1", f"--model_base_path={adder}", f"--{flag}={pipe}", *others)
    assert ended.returncode == 1
    assert f"{pipe} is a FIFO, expected a regular file" in ended.stderr


def test_the_port_file_replaces_what_was_left_there(adder: Path, tmp_path: Path) -> None:
    ports = tmp_path / "ports.json"
    os.mkfifo(f"{ports}.unfinished")
    with ModelServer(f"--model_base_path={adder}", f"--port_file={ports}", port_file=ports) as server:
        assert predict(server.rest, "default", [1.0])[0] == 200


def test_listens_where_it_is_told_to(adder: Path) -> None:
    def reachable(server: ModelServer, address: str) -> list[bool]:
        answers = []
        for port in (server.grpc_port, server.rest_port):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family) as client:
                answers.append(client.connect_ex((address, port)) == 0)
        return answers

    with ModelServer(f"--model_base_path={adder}") as server:
        assert reachable(server, "127.0.0.2") == [True, True]
    with ModelServer(f"--model_base_path={adder}", "--bind_address=127.0.0.1") as server:
        assert reachable(server, "127.0.0.1") == [True, True]
        assert reachable(server, "127.0.0.2") == [False, False]
    ended = run(f"--model_base_path={adder}", "--port=0", "--rest_api_port=-1", "--bind_address=nowhere")
    assert ended.returncode == 1 and "nowhere" in ended.stderr


def test_flags_without_effect_say_so_in_a_line_each(adder: Path) -> None:
    flags = [
        "--model_config_file_poll_wait_seconds=1",
        "--enable_per_model_batching_parameters",
        "--prefer_tflite_model",
        "--num_tflite_pools=3",
        "--num_tflite_interpreters_per_pool=3",
        "--thread_pool_factory_config_file=/any",
        "--xla_gpu_compilation_enabled",
        "--per_process_gpu_memory_fraction=0.5",
        "--skip_initialize_tpu",
    ]
    with ModelServer(f"--model_base_path={adder}", *flags) as server:
        said = [line for line in server.log().splitlines() if "has no effect" in line]
        assert predict(server.rest, "default", [1.0]) == (200, {"predictions": [3.0]})
    assert [re.findall(r"--\w+", line)[0] for line in said] == [flag.split("=")[0] for flag in flags]
    with ModelServer(f"--model_base_path={adder}") as server:
        assert "has no effect" not in server.log()


def test_files_take_the_place_of_flags_as_in_tensorflow_serving(adder: Path, tmp_path: Path) -> None:
    # The official image's entry point always gives name and path.
    models = tmp_path / "models.config"
    models.write_text(f'model_config_list {{ config {{ name: "m" base_path: "{adder}" }} }}')
    platform = tmp_path / "platform.config"
    platform.write_text(
        'platform_configs { key: "tensorflow" value { source_adapter_config {'
        " [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig]"
        " { legacy_config { session_config { inter_op_parallelism_threads: 2 } } } } } }"
    )
    ignored = [
        "--model_name=model",
        "--model_base_path=/models/model",
        "--enable_batching",
        "--batching_parameters_file=/none",
        "--tensorflow_session_config_file=/none",
        "--tensorflow_session_parallelism=3",
        "--tensorflow_intra_op_parallelism=3",
        "--tensorflow_inter_op_parallelism=3",
    ]
    with ModelServer(
        f"--model_config_file={models}", f"--platform_config_file={platform}", *ignored
    ) as server:
        said = [line for line in server.log().splitlines() if "has no effect" in line]
        assert predict(server.rest, "m", [1.0]) == (200, {"predictions": [3.0]})
        assert request(f"{server.rest}/v1/models/model")[0] == 404
        assert threads(server, "tf_Compute") == 2
    assert [re.findall(r"has no effect|--\w+", line)[0] for line in said] == [
        flag.split("=")[0] for flag in ignored
    ]


def test_health_knows_the_services_by_both_their_names(adder: Path) -> None:
    with ModelServer(f"--model_base_path={adder}") as server:
        for name in ("PredictionService", "ModelService"):
            assert health(server, name) == SERVING
            assert health(server, f"tensorflow.serving.{name}") == SERVING
        assert health(server, "SessionService") == grpc.StatusCode.NOT_FOUND


def test_a_slow_model_holds_up_nobody(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate", 1)
    write_adder(tmp_path / "adder", 1, 1.0)
    config = tmp_path / "models.config"
    config.write_text(
        "model_config_list {"
        f' config {{ name: "gate" base_path: "{tmp_path / "gate"}" }}'
        f' config {{ name: "adder" base_path: "{tmp_path / "adder"}" }} }}'
    )
    with ModelServer(f"--model_config_file={config}") as server:
        answers: list[tuple[int, object]] = []
        calls = [
            threading.Thread(target=lambda: answers.append(predict(server.rest, "gate", [1.5])))
            for _ in range(32)
        ]
        for call in calls:
            call.start()
        gate.wait_for_call()
        assert predict(server.rest, "adder", [1.0]) == (200, {"predictions": [2.0]})
        assert states(server.rest, "gate") == {1: ("AVAILABLE", "")}
        assert request(f"{server.rest}/v1/models/gate/metadata")[0] == 200
        assert health(server) == SERVING
        assert answers == []
        with gate.open():
            for call in calls:
                call.join(60)
        assert answers == [(200, {"predictions": [1.5]})] * 32


def test_a_call_that_takes_too_long_is_answered_in_time(tmp_path: Path) -> None:
    gate = Gate(tmp_path, 1)
    server = ModelServer(f"--model_base_path={tmp_path}", "--model_name=gate", "--rest_api_timeout_in_ms=50")
    # Nobody releases these calls before they are answered.
    status, answer = predict(server.rest, "gate", [1.5])
    assert status == 504 and "50 ms" in answer["error"]
    call = predict_pb2.PredictRequest()
    call.model_spec.name = "gate"
    call.inputs["x"].CopyFrom(tf.make_tensor_proto([1.5]))
    with channel(server) as connection, pytest.raises(grpc.RpcError) as failed:
        prediction_service_pb2_grpc.PredictionServiceStub(connection).Predict(call, timeout=0.05)
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert states(server.rest, "gate") == {1: ("AVAILABLE", "")}
    with gate.open():
        assert server.stop() == 0


def test_serves_while_looking_for_requests_without_sleep(adder: Path) -> None:
    with ModelServer(f"--model_base_path={adder}", "--model_name=adder", "--io_spin_us=1000") as server:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel(server))
        call = predict_pb2.PredictRequest()
        call.model_spec.name = "adder"
        call.inputs["x"].CopyFrom(tf.make_tensor_proto([1.5]))
        for _ in range(100):
            assert predict(server.rest, "adder", [1.0]) == (200, {"predictions": [3.0]})
            assert list(stub.Predict(call, timeout=60).outputs["y"].float_val) == [3.5]


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6")
def test_listens_on_ipv6_and_ipv4(adder: Path) -> None:
    with ModelServer(f"--model_base_path={adder}") as server:
        for host in ("[::1]", "127.0.0.1"):
            answer = predict(f"http://{host}:{server.rest_port}", "default", [1.0])
            assert answer == (200, {"predictions": [3.0]})
            with grpc.insecure_channel(f"{host}:{server.grpc_port}") as connection:
                grpc.channel_ready_future(connection).result(30)
    with ModelServer(f"--model_base_path={adder}", "--bind_address=127.0.0.1") as server:
        assert predict(server.rest, "default", [1.0])[0] == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("::1", server.rest_port))


def test_listens_while_loading_when_told_to(tmp_path: Path) -> None:
    write_adder(tmp_path / "model", 1, 1.0)
    with ModelServer(
        f"--model_base_path={tmp_path / 'model'}", "--model_name=m", "--listen_while_loading"
    ) as server:
        wait_until(lambda: states(server.rest, "m").get(1) == ("AVAILABLE", ""), "the model")
        log = server.log()
    assert log.index("Exporting HTTP/REST API") < log.index("Entering the event loop")
