"""What the installed package consists of, and the names it can be imported by."""

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_ipu import serving

MODULES = [
    "serving",
    "config",
    "ipu_strategy",
    "ipu_compiler",
    "loops",
    "embedded_runtime",
    "application_compile_op",
    "pipelining_ops",
    "ipu_infeed_queue",
    "ipu_outfeed_queue",
    "scopes",
    "utils",
]


def installed_files(distribution: str) -> set[str]:
    return {os.path.normpath(str(file.locate())) for file in importlib.metadata.files(distribution) or []}


def test_no_file_is_shared_with_tensorflow() -> None:
    ours = installed_files("tensorflow-ipu")
    assert any(name.endswith("_model_server") for name in ours)
    assert not ours & installed_files("tensorflow")


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_one_object_under_both_names(module: str) -> None:
    package = importlib.import_module("tensorflow.python.ipu")
    alias = importlib.import_module(f"tensorflow.python.ipu.{module}")
    own = importlib.import_module(f"tensorflow_ipu.{module}")
    assert alias is own
    assert getattr(package, module) is own


@pytest.mark.parametrize("module", ["pipelining_ops", "embedded_runtime", "application_compile_op"])
def test_ops_are_importable_from_the_ops_folder(module: str) -> None:
    ops = importlib.import_module("tensorflow.python.ipu.ops")
    importlib.import_module(f"tensorflow.python.ipu.ops.{module}")
    assert getattr(ops, module) is importlib.import_module(f"tensorflow_ipu.{module}")


def test_documented_import_statements() -> None:
    program = """
from tensorflow.python import ipu
from tensorflow.python.ipu import serving
from tensorflow.python.ipu.config import IPUConfig
from tensorflow.python.ipu.ops import pipelining_ops, embedded_runtime, application_compile_op
import keras
assert ipu.serving is serving and ipu.config.IPUConfig is IPUConfig
assert keras.ipu.PipelineStage
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_server_is_on_the_path_and_knows_its_version() -> None:
    server = shutil.which("tensorflow_model_server")
    assert server, "tensorflow_model_server is not on the PATH"
    answer = subprocess.run([server, "--version"], check=True, capture_output=True, text=True, timeout=60)
    assert importlib.metadata.version("tensorflow-ipu") in answer.stdout
    assert answer.stderr == ""


@pytest.mark.parametrize(
    "imports",
    [
        "import tensorflow_ipu, tensorflow as tf",
        "import tensorflow as tf, tensorflow_ipu",
        "from tensorflow.python import ipu; import tensorflow as tf",
    ],
)
def test_importing_the_package_registers_its_ops(imports: str, tmp_path: Path) -> None:
    serving.export_single_step(lambda x: x * 2, str(tmp_path / "m"), 1, [tf.TensorSpec([4], tf.float32)])
    program = f"""
{imports}
model = tf.saved_model.load({str(tmp_path / "m")!r})
print(model.signatures["serving_default"](tf.ones([4]))["output_0"].numpy().tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[2.0, 2.0, 2.0, 2.0]", done.stderr


def test_importing_the_package_does_not_import_tensorflow() -> None:
    program = "import sys, tensorflow_ipu; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
