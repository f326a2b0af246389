"""Many models in one config that is reloaded again and again while clients call all of them."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model_server import ModelServer, channel
from served_models import write_adder
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc


@dataclass
class ManyModels:
    """`count` models in a folder. Version 1 of each adds 1 to its input, version 2 adds 2.

    They share the files of two SavedModels.
    """

    folder: Path
    count: int
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = [f"m{i}" for i in range(self.count)]
        versions = [write_adder(self.folder / "source", version, version) for version in (1, 2)]
        for name in self.names:
            (self.folder / name).mkdir()
            for version in versions:
                (self.folder / name / version.name).symlink_to(version)

    def config(self, version: int) -> model_management_pb2.ReloadConfigRequest:
        """All models at this version."""
        request = model_management_pb2.ReloadConfigRequest()
        for name in self.names:
            model = request.config.model_config_list.config.add()
            model.name = name
            model.base_path = str(self.folder / name)
            model.model_platform = "tensorflow"
            model.model_version_policy.specific.versions.append(version)
        return request

    def write_config(self, version: int) -> Path:
        file = self.folder / "models.config"
        file.write_text(str(self.config(version).config))
        return file


def reload_all(server: ModelServer, models: ManyModels, version: int) -> None:
    """Returns when each model is served at this version and no other."""
    with channel(server) as connection:
        stub = model_service_pb2_grpc.ModelServiceStub(connection)
        answer = stub.HandleReloadConfigRequest(models.config(version), timeout=120)
    if answer.status.error_code:
        raise ValueError(answer.status.error_message)


@dataclass
class Answers:
    """What the clients got so far."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)


@contextmanager
def clients(server: ModelServer, models: ManyModels, count: int) -> Iterator[Answers]:
    """As long as this lasts, as many clients, with a connection each, call one model after the other."""
    answers = Answers()
    ended = threading.Event()
    lock = threading.Lock()

    def call(first: int) -> None:
        right = 0
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
        try:
            for number in itertools.count(first * len(models.names) // count):
                if ended.is_set():
                    break
                name = models.names[number % len(models.names)]
                connection.request("POST", f"/v1/models/{name}:predict", '{"instances": [1.0]}')
                response = connection.getresponse()
                answer = response.read()
                if response.status == 200 and json.loads(answer)["predictions"][0] in (2.0, 3.0):
                    right += 1
                else:
                    answers.wrong.append(f"{name}: {response.status} {answer!r}")
        except OSError as error:
            answers.wrong.append(f"{error!r}")
        finally:
            connection.close()
            with lock:
                answers.right += right

    threads = [threading.Thread(target=call, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join()
