"""The server's symbols: nothing of what is linked into it statically meets TensorFlow's own copy of it."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from model_server import server_binary

# Of the C++ and C runtimes; the linker's own.
STANDARD = ("_ZNS", "_ZZNS", "_ZNKS", "_ZS", "_ZTV", "_ZTI", "_ZTS", "_Zn", "_Zd", "_ZGV")
FOREIGN = (
    "SSL_ EVP_ BIO_ X509 RSA_ SHA256 CRYPTO_ _ZN3re2 _ZNK3re2 _ZN4grpc grpc_ inflate deflate nghttp2_"
).split()
LINKER = ["_init", "_fini", "__bss_start", "_edata", "_end", "_IO_stdin_used", "__data_start", "data_start"]
# Copies of libc's variables that the program refers to.
VARIABLES = ["stdout", "stderr", "stdin", "environ", "__environ", "optarg", "optind"]


def symbols(which: str) -> list[str]:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm")
    listed = subprocess.run([nm, "-D", which, server_binary()], capture_output=True, text=True, check=True)
    return [line.split()[-1].split("@")[0] for line in listed.stdout.splitlines()]


def test_only_standard_library_symbols_are_exported() -> None:
    allowed = {*LINKER, *VARIABLES}
    exported = symbols("--defined-only")
    assert [name for name in exported if name not in allowed and not name.startswith(STANDARD)] == []


def test_nothing_of_a_library_is_taken_from_tensorflow() -> None:
    assert [name for name in symbols("--undefined-only") if name.startswith(tuple(FOREIGN))] == []
