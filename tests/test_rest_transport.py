"""The REST transport of the running server: what a client may send, and the bounds that flags set."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from model_server import ModelServer
from served_models import predict, wait_until, write_adder

PREDICT = "/v1/models/adder:predict"
BODY = json.dumps({"instances": [1.0, 2.5]}).encode()
ANSWER = {"predictions": [2.0, 3.5]}


def serve(base: Path, *flags: str) -> ModelServer:
    """A server of the model "adder" that was written to `base`, ready to answer."""
    server = ModelServer("--model_name=adder", f"--model_base_path={base}", *flags)
    wait_until(lambda: predict(server.rest, "adder", [1.0])[0] == 200, "the model is served")
    return server


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adder")
    write_adder(folder, 1, 1.0)
    return folder


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[ModelServer]:
    with serve(base) as running:
        yield running


def connect(server: ModelServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)


def ask(
    server: ModelServer,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, header fields and body of one answer."""
    connection = connect(server)
    try:
        connection.request(method, path, body, headers or {}, **options)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_keeps_the_connection(server: ModelServer) -> None:
    connection = connect(server)
    connection.connect()
    first = connection.sock
    for _ in range(20):
        connection.request("POST", PREDICT, BODY)
        assert json.load(connection.getresponse()) == ANSWER
        assert connection.sock is first
    connection.close()


def test_chunked_body(server: ModelServer) -> None:
    pieces = iter([BODY[:5], BODY[5:6], BODY[6:]])
    status, _, body = ask(server, "POST", PREDICT, pieces, encode_chunked=True)
    assert (status, json.loads(body)) == (200, ANSWER)


def test_gzip_both_ways(server: ModelServer) -> None:
    many = json.dumps({"instances": [0.5] * 5000}).encode()
    fields = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    status, headers, body = ask(server, "POST", PREDICT, gzip.compress(many), fields)
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert json.loads(gzip.decompress(body)) == {"predictions": [1.5] * 5000}


def test_expect_continue_and_pipelining(server: ModelServer) -> None:
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=60) as connection:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        stream = connection.makefile("rb")
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        # The body, and two more requests right behind it.
        connection.sendall(
            BODY + f"{head}\r\n".encode() + BODY + f"{head}Connection: close\r\n\r\n".encode() + BODY
        )
        rest = stream.read()
    assert rest.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert rest.count(json.dumps(ANSWER).encode()) == 3


def test_head_has_no_body(server: ModelServer) -> None:
    status, headers, body = ask(server, "HEAD", "/v1/models/adder")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


def test_wrong_method_names_the_right_one(server: ModelServer) -> None:
    status, headers, body = ask(server, "GET", PREDICT)
    assert (status, headers["Allow"]) == (405, "POST")
    assert json.loads(body)["error"]


def test_no_cors_unless_asked_for(server: ModelServer) -> None:
    assert ask(server, "GET", "/v1/models/adder")[1]["Access-Control-Allow-Origin"] is None
    assert ask(server, "OPTIONS", PREDICT)[0] == 405
    status, headers, _ = ask(server, "OPTIONS", PREDICT, headers={"Origin": "http://elsewhere"})
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, None)


def test_cors_flag(base: Path) -> None:
    with serve(base, "--rest_api_enable_cors_support=true") as server:
        status, headers, _ = ask(server, "OPTIONS", PREDICT, headers={"Origin": "http://elsewhere"})
        assert status == 200
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in headers["Access-Control-Allow-Methods"]
        assert "Content-Type" in headers["Access-Control-Allow-Headers"]
        assert "x-priority" in headers["Access-Control-Allow-Headers"]
        assert ask(server, "POST", PREDICT, BODY)[1]["Access-Control-Allow-Origin"] == "*"


def test_bounds_are_flags(base: Path) -> None:
    with serve(
        base,
        "--rest_api_max_body_bytes=1000",
        "--rest_api_max_header_bytes=2000",
        "--rest_api_max_json_depth=5",
    ) as server:
        assert ask(server, "POST", PREDICT, b" " * 1000)[0] == 400
        assert ask(server, "POST", PREDICT, b" " * 1001)[0] == 413
        assert (
            ask(server, "POST", PREDICT, gzip.compress(b" " * 100000), {"Content-Encoding": "gzip"})[0] == 413
        )
        assert ask(server, "GET", "/v1/models/adder", headers={"X": "x" * 20000})[0] == 431
        deep = b'{"instances": [[[[[1.0]]]]]}'
        status, _, body = ask(server, "POST", PREDICT, deep)
        assert status == 400
        assert "limit" in json.loads(body)["error"]
        assert predict(server.rest, "adder", [1.0]) == (200, {"predictions": [2.0]})


def test_connection_limit_is_a_flag(base: Path) -> None:
    with serve(base, "--rest_api_max_connections=2") as server:
        kept: list[http.client.HTTPConnection] = []
        # What a request before has used may take a moment to be seen as closed.
        while len(kept) < 2:
            connection = connect(server)
            connection.request("GET", "/v1/models/adder")
            response = connection.getresponse()
            response.read()
            if response.status == 200:
                kept.append(connection)
        assert ask(server, "GET", "/v1/models/adder")[0] == 503
        kept[0].request("POST", PREDICT, BODY)
        assert json.load(kept[0].getresponse()) == ANSWER
        for connection in kept:
            connection.close()


def test_slow_clients_are_timed_out_by_flags(base: Path) -> None:
    flags = [
        "--rest_api_header_timeout_in_ms=100",
        "--rest_api_stall_timeout_in_ms=100",
        "--rest_api_idle_timeout_in_ms=100",
    ]
    with serve(base, *flags) as server:
        for sent, status in [
            (b"GET /v1", b"408"),
            (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx", b"408"),
            (b"", b""),
        ]:
            with socket.create_connection(("127.0.0.1", server.rest_port), timeout=60) as connection:
                connection.sendall(sent)
                assert connection.makefile("rb").read()[9:12] == status


def test_requests_in_flight_are_answered_at_the_end(base: Path) -> None:
    with serve(base) as server:
        connection = connect(server)
        connection.connect()
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
        connection.sock.sendall(head + BODY[:3])
        idle = connect(server)
        idle.request("GET", "/v1/models/adder")
        idle.getresponse().read()
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        # The idle connection ends when the server begins to stop; the begun request is still answered.
        assert idle.sock is None or idle.sock.recv(1) == b""
        connection.sock.sendall(BODY[3:])
        answer = connection.sock.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in answer
        assert json.loads(answer.split(b"\r\n\r\n", 1)[1]) == ANSWER
        stopping.join()
        assert server.process.returncode == 0
