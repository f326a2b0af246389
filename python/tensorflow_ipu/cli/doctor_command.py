"""`tensorflow_ipu doctor`: does an executable run on this machine and server, and if not, why."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tensorflow_ipu.cli.command_error import CommandError
from tensorflow_ipu.cli.executable_files import (
    find_executables,
    native,
    offers,
    read_header,
    runtime_identity,
)
from tensorflow_ipu.cli.target_text import Finding, compare, compare_target
from tensorflow_ipu.cli.text_table import size_text

_SERVER = "tensorflow_model_server"


def add_to(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="say whether an executable runs here, and if not, why",
        description="Checks an executable's bytes, versions, target and CPU features against this machine, "
        "and runs it for a moment. Exit status 0: it runs here. 1: it does not.",
    )
    parser.add_argument(
        "target",
        metavar="FILE_OR_SAVEDMODEL",
        help="executable file, SavedModel, or a folder of numbered versions",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--no-run", action="store_true", help="compare only, run nothing")
    parser.add_argument(
        "--server",
        metavar="URL",
        help="REST address of a model (http://localhost:8501/v1/models/NAME): ask that server, too",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    reports = {path: list(_examine(path, not options.no_run)) for path in find_executables(options.target)}
    here = list(_installed_server())
    if options.server:
        here += list(_running_server(options.server))
    everything = [finding for findings in reports.values() for finding in findings] + here
    runs = all(finding.state != "bad" for finding in everything)
    if options.json:
        print(
            json.dumps(
                {
                    "runs_here": runs,
                    "executables": [
                        {"path": path, "findings": [asdict(finding) for finding in findings]}
                        for path, findings in reports.items()
                    ],
                    "server": [asdict(finding) for finding in here],
                },
                indent=2,
            )
        )
    else:
        for path, findings in reports.items():
            print(path)
            _print(findings)
        print("server")
        _print(here)
        print("\nIt runs here." if runs else "\nIt does not run here.")
    return 0 if runs else 1


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        print(f"  {finding.state:4}  {finding.subject.ljust(width)}  {finding.text}")


def _examine(path: str, run_it: bool) -> Iterator[Finding]:
    try:
        header = read_header(path)
    except CommandError as error:
        yield Finding("file", "bad", str(error))
        return
    yield Finding("file", "ok", f"{size_text(header['file_size'])}, every checksum is right")
    yield from _compare(header)
    try:
        native().check_compatibility(path)
    except native().StatusError as error:
        yield Finding("verdict", "bad", error.message)
        return
    yield from _resources(header)
    if run_it:
        yield _run_once(path)


def _compare(header: dict[str, Any]) -> Iterator[Finding]:
    built, runs = header["build"], runtime_identity()["build"]
    target = header["target"]
    if target["kind"] == "ipu":  # the code is TensorFlow's XLA's
        found, expected = built["tensorflow_version"], runs["tensorflow_version"]
        yield compare("TensorFlow", found, expected, found.split(".")[:2] == expected.split(".")[:2])
        found, expected = built["tensorflow_git_version"], runs["tensorflow_git_version"]
        yield compare("TensorFlow build", found, expected, found == expected)
    found, expected = built["runtime_hash"], runs["runtime_hash"]
    skipped = "--disable_poplar_version_check" in os.environ.get("TF_POPLAR_FLAGS", "").split()
    yield compare("runtime hash", found, expected, found == expected, "note" if skipped else "bad")
    found, expected = built["runtime_version"], runs["runtime_version"]
    yield compare("tensorflow_ipu", found, expected, found == expected, "note")
    yield from compare_target(target, offers(target["kind"]))


def _resources(header: dict[str, Any]) -> Iterator[Finding]:
    replicas = max(header["replicas"], 1)
    scratch = sum(stage["temp_size"] for stage in header["stages"])
    needed = header["file_size"] + scratch * replicas
    available = _available_memory()
    if available is not None:
        yield Finding(
            "memory",
            "ok" if needed < available else "note",
            f"needs about {size_text(needed)}, available are {size_text(available)}",
        )
    if header["target"]["kind"] != "ipu":
        return
    threads = replicas * len({stage["ipu"] for stage in header["stages"]})
    cores = len(os.sched_getaffinity(0))
    yield Finding(
        "cores",
        "ok" if threads <= cores else "note",
        f"{threads} emulated IPU{'s' if threads > 1 else ''} on {cores} core{'s' if cores > 1 else ''}"
        + ("" if threads <= cores else ": they share cores"),
    )


def _available_memory() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _run_once(path: str) -> Finding:
    try:
        result = native().LoadProgram(path).drive(seconds=0.05, warm_up_seconds=0.0)
    except native().StatusError as error:
        return Finding("run", "bad", error.message)
    if result["failed"]:
        # Random feeds may well raise the floating-point exceptions that the executable asks for.
        return Finding("run", "note", f"loads, but a step on random feeds failed: {result['failure']}")
    return Finding(
        "run", "ok", f"{result['calls']} steps on random feeds, the median took {result['p50']:.0f} us"
    )


def _installed_server() -> Iterator[Finding]:
    from tensorflow_ipu import __version__

    beside = os.path.join(os.path.dirname(sys.executable), _SERVER)
    path = beside if os.access(beside, os.X_OK) else shutil.which(_SERVER)
    if path is None:
        yield Finding(_SERVER, "note", "not on the PATH: this machine can run the model in Python only")
        return
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding(_SERVER, "bad", f"{path} does not start: {error}")
        return
    versions = dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)
    found = versions.get("TensorFlow ModelServer", answer.strip())
    same = found.startswith(__version__) or __version__ == "0+source"
    yield Finding(
        _SERVER,
        "ok" if same else "note",
        f"{found} at {path}"
        + ("" if same else f"; this package is {__version__}: the server may judge otherwise"),
    )


def _running_server(url: str) -> Iterator[Finding]:
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=30) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        yield Finding(url, "bad", f"HTTP {error.code}: {error.read().decode(errors='replace').strip()}")
        return
    except (OSError, ValueError) as error:
        yield Finding(url, "bad", f"no answer: {error}")
        return
    versions = answer.get("model_version_status", []) if isinstance(answer, dict) else []
    if not versions:
        yield Finding(url, "bad", "the server knows no version of this model")
    for version in versions:
        status = version.get("status", {})
        code = status.get("error_code", "OK")
        yield Finding(
            f"version {version.get('version')}",
            "ok" if version.get("state") == "AVAILABLE" else "bad" if code != "OK" else "note",
            f"{version.get('state')}" + (f", {code}: {status.get('error_message')}" if code != "OK" else ""),
        )
