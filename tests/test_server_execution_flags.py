"""Flags and files that say how TensorFlow's sessions run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from model_server import ModelServer, anonymous_memory, threads
from prometheus_page import metric_value, monitoring_flag
from served_models import predict, states
from tensorflow.core.protobuf import saved_model_pb2

SIZE = 512
ROWS = [[((row + column * 7919) % 1000) / 1000 - 0.5 for column in range(SIZE)] for row in range(2)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two matrix products, large enough for oneDNN and XLA to take them up."""
    folder = tmp_path_factory.mktemp("products")
    random = np.random.default_rng(3)

    class Products(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = tf.Variable(random.standard_normal((SIZE, SIZE)).astype(np.float32))
            self.second = tf.Variable(random.standard_normal((SIZE, SIZE)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, SIZE], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            hidden = tf.nn.relu(tf.matmul(x, self.first))
            last = tf.tanh(tf.matmul(hidden, self.second) * 1e-3)
            return {"y": tf.reduce_sum(last * last + tf.sin(last), axis=1)}

    module = Products()
    tf.saved_model.save(module, str(folder / "1"), signatures={"serving_default": module.serve})
    return folder


@pytest.fixture(scope="module")
def serve(base: Path) -> Callable[..., ModelServer]:
    def start(*flags: str) -> ModelServer:
        return ModelServer(f"--model_base_path={base}", "--model_name=m", *flags)

    return start


def answer(server: ModelServer) -> list[float]:
    status, body = predict(server.rest, "m", ROWS)
    assert status == 200, body
    return body["predictions"]


@pytest.fixture(scope="module")
def exact(serve: Callable[..., ModelServer]) -> list[float]:
    """What the model answers with no flag."""
    with serve() as server:
        return answer(server)


def platform_config(legacy: str) -> str:
    return (
        'platform_configs { key: "tensorflow" value { source_adapter_config {'
        " [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig]"
        f" {{ legacy_config {{ {legacy} }} }} }} }} }}"
    )


def has_bfloat16() -> bool:
    return "avx512f" in Path("/proc/cpuinfo").read_text()


def test_mixed_precision_computes_in_bfloat16(
    serve: Callable[..., ModelServer], exact: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve("--mixed_precision=bfloat16") as server:
        mixed = answer(server)
        assert ("--mixed_precision has no effect" in server.log()) != has_bfloat16()
    assert (mixed != exact) == has_bfloat16()
    np.testing.assert_allclose(mixed, exact, rtol=0.02)
    # Where TensorFlow cannot do it, the server says so.
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    with serve("--mixed_precision=bfloat16") as server:
        np.testing.assert_allclose(answer(server), exact, rtol=1e-5)
        assert "--mixed_precision has no effect" in server.log()


def test_xla_compiles_when_told_to(
    serve: Callable[..., ModelServer], exact: list[float], tmp_path: Path
) -> None:
    monitoring = monitoring_flag(tmp_path)
    with serve("--xla_cpu_compilation_enabled", monitoring) as server:
        np.testing.assert_allclose(answer(server), exact, rtol=1e-4)
        assert metric_value(server, ":tensorflow:core:xla_compilations") >= 1
    with serve(monitoring) as server:
        assert answer(server) == exact
        assert metric_value(server, ":tensorflow:core:xla_compilations") == 0


def test_threads_are_as_many_as_flags_and_files_say(
    serve: Callable[..., ModelServer], tmp_path: Path
) -> None:
    session = tmp_path / "session.config"
    session.write_text("inter_op_parallelism_threads: 6 intra_op_parallelism_threads: 4")
    platform = tmp_path / "platform.config"
    platform.write_text(platform_config("session_config { inter_op_parallelism_threads: 7 }"))
    # TensorFlow's names: the pool of operations is "tf_Compute". Threads within operations have the name of
    # the thread that made them, and there is one version to load.
    in_operation = {}
    for flags, between in (
        (["--tensorflow_intra_op_parallelism=1", "--tensorflow_inter_op_parallelism=3"], 3),
        (["--tensorflow_session_parallelism=5"], 5),
        (["--tensorflow_session_parallelism=5", "--tensorflow_inter_op_parallelism=3"], 3),
        ([f"--tensorflow_session_config_file={session}"], 6),
        ([f"--tensorflow_session_config_file={session}", "--tensorflow_inter_op_parallelism=3"], 3),
        ([f"--platform_config_file={platform}"], 7),
    ):
        with serve("--num_load_threads=1", *flags) as server:
            answer(server)
            assert threads(server, "tf_Compute") == between, flags
            in_operation[" ".join(flags)] = threads(server, "load")
    one, five, also_five, four, also_four, default = in_operation.values()
    assert five == also_five == one + 4
    assert four == also_four == one + 3
    assert default == one


@pytest.mark.parametrize(
    ("flag", "text", "reason"),
    [
        ("tensorflow_session_config_file", "intra_op: 1", "line 1, column 9"),
        (
            "tensorflow_session_config_file",
            "intra_op_parallelism_threads: -7",
            "found -7, expected 0 to 4096",
        ),
        ("platform_config_file", 'platform_configs { key: "caffe" value {} }', 'found platform "caffe"'),
        ("platform_config_file", 'platform_configs { key: "tensorflow" value {} }', "source_adapter_config"),
        (
            "platform_config_file",
            platform_config("session_target: 'elsewhere'"),
            'session_target "elsewhere"',
        ),
    ],
)
def test_a_wrong_file_ends_the_start_with_its_reason(
    serve: Callable[..., ModelServer], tmp_path: Path, flag: str, text: str, reason: str
) -> None:
    file = tmp_path / "wrong.config"
    file.write_text(text)
    with pytest.raises(RuntimeError, match=reason):
        serve(f"--{flag}={file}")


def test_tags_choose_the_meta_graph(base: Path, tmp_path: Path) -> None:
    tagged = tmp_path / "tagged" / "1"
    tagged.mkdir(parents=True)
    (tagged / "variables").symlink_to(base / "1" / "variables")
    model = saved_model_pb2.SavedModel.FromString((base / "1" / "saved_model.pb").read_bytes())
    model.meta_graphs[0].meta_info_def.tags[:] = ["serve", "special"]
    (tagged / "saved_model.pb").write_bytes(model.SerializeToString())
    flags = [f"--model_base_path={tagged.parent}", "--model_name=m"]
    with ModelServer(*flags) as server:
        state, reason = states(server.rest, "m")[1]
        assert state == "END" and "serve" in reason
    with ModelServer(*flags, "--saved_model_tags=special,serve") as server:
        answer(server)


def test_a_graph_is_kept_only_when_told_to(tmp_path: Path) -> None:
    megabytes = 40
    constant = np.random.default_rng(1).random(megabytes << 18, np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + tf.constant(constant)[0]}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": serve})
    memory = {}
    for flag in ("", "no"):
        with ModelServer(
            f"--model_base_path={tmp_path}",
            "--model_name=m",
            f"--{flag}remove_unused_fields_from_bundle_metagraph",
        ) as server:
            assert predict(server.rest, "m", [0.0])[0] == 200
            memory[flag] = anonymous_memory(server) / 1024
    assert memory["no"] > memory[""] + megabytes / 2, memory
