"""`tensorflow_ipu inspect`: what is inside an executable."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from tensorflow_ipu.cli.executable_files import (
    compiled_rows,
    find_executables,
    read_digest,
    read_header,
    shape_text,
    tensor_bytes,
)
from tensorflow_ipu.cli.target_text import describe_target, memory_of_device
from tensorflow_ipu.cli.text_table import count_text, listing, size_text, table


def add_to(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "inspect",
        help="show what is inside an executable",
        description="Shows what is inside an executable: versions, target, stages, feeds, sizes. Every byte "
        "of the file is checked first.",
    )
    parser.add_argument(
        "target",
        metavar="FILE_OR_SAVEDMODEL",
        help="executable file, SavedModel, or a folder of numbered versions",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON: path, digest and header of each executable"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    reports = [
        {"path": path, "digest": read_digest(path), "header": read_header(path)}
        for path in find_executables(options.target)
    ]
    if options.json:
        print(json.dumps({"executables": reports}, indent=2))
    else:
        print("\n\n".join("\n".join(_describe(report)) for report in reports))
    return 0


def _describe(report: dict[str, Any]) -> Iterator[str]:
    header = report["header"]
    build, target = header["build"], header["target"]
    memory = memory_of_device(target)
    exceptions = [name for name in ("inv", "div0", "oflo") if header["floating_point"][name]]
    if header["dynamic_batch"]:
        smaller = ", ".join(str(variant["rows"]) for variant in header["row_variants"])
        batching = (
            f"rows of concurrent calls are packed into batches of {compiled_rows(header)}"
            f"{f', or {smaller} when there are few' if smaller else ''}; "
            f"a row waits up to {header['max_wait_us']} us for company"
        )
    else:
        batching = "each call is one compiled batch"
    hold = header["hold"]
    yield from listing(
        [
            ("executable", f"{report['path']} ({size_text(header['file_size'])})"),
            ("digest", report["digest"]),
            (
                "program",
                f"{header['name']}: {count_text(len(header['stages']), 'stage')}, "
                f"{header['schedule'].lower()}, {count_text(header['iterations'], 'iteration')} a run",
            ),
            ("batching", batching),
            (
                "stalls",
                f"holds {hold} batch{'' if hold == 1 else 'es'}, which a dummy batch pushes out after "
                f"{header['timeout_us']} us"
                if hold
                else "never",
            ),
            ("replicas", str(header["replicas"]) if header["replicas"] else "as whoever runs it chooses"),
            ("ends a run on", ", ".join(exceptions) or "no floating-point exception"),
            *describe_target(target),
            (
                "made with",
                f"tensorflow_ipu {build['runtime_version']} (runtime hash {build['runtime_hash']}), "
                f"TensorFlow {build['tensorflow_version']} ({build['tensorflow_git_version']})",
            ),
        ]
    )
    yield "\nstages"
    yield table(
        ("name", "IPU", "arguments", "results", "code", "HLO", "scratch", "memory of its IPU"),
        [
            (
                stage["name"],
                stage["ipu"],
                len(stage["arguments"]),
                len(stage["results"]),
                size_text(stage["code"]["size"]),
                size_text(stage["hlo"]["size"]) if "hlo" in stage else "-",
                size_text(stage["temp_size"]),
                size_text(stage["memory_used"])
                + (f" ({stage['memory_used'] / memory:.1%})" if memory else ""),
            )
            for stage in header["stages"]
        ],
    )
    for title, specs in (
        ("infeeds", header["infeeds"]),
        ("outfeeds", header["outfeeds"]),
        ("start-up inputs", header["startup_inputs"]),
        ("carried values", [carried["spec"] for carried in header["carried"]]),
    ):
        if specs:
            yield f"\n{title}"
            rows = [(spec["name"], shape_text(spec), size_text(tensor_bytes(spec))) for spec in specs]
            yield table(("name", "type", "size"), rows)
    weights = header["weights"]
    if weights:
        total = sum(weight["blob"]["size"] for weight in weights)
        yield f"\n{count_text(len(weights), 'weight')}, {size_text(total)}; the largest"
        largest = sorted(weights, key=lambda weight: -weight["blob"]["size"])[:8]
        yield table(
            ("name", "IPU", "type", "size"),
            [
                (w["spec"]["name"], w["ipu"], shape_text(w["spec"]), size_text(w["blob"]["size"]))
                for w in largest
            ],
        )
    if header["options"]:
        yield "\noptions"
        yield table(("name", "value"), sorted(header["options"].items()))
