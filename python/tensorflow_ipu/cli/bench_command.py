"""`tensorflow_ipu bench`: measures executables in process or a model on a server; recommends settings."""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tensorflow_ipu.cli.bench_point import Load, Point, Setting
from tensorflow_ipu.cli.bench_recommendation import recommend
from tensorflow_ipu.cli.command_error import CommandError
from tensorflow_ipu.cli.executable_files import compiled_rows, native, only_executable, read_header
from tensorflow_ipu.cli.text_table import table

_DESCRIPTION = """\
Puts a model under load and measures throughput, latency percentiles and fill.

In process: `bench TARGET...` drives the executables (not their pre- and postprocessing) with native
code. Every combination of the lists that are given is measured. Iterations, timeout, waiting time and
replicas are changed for the measurement only. Batches are compiled in: give one export for each batch to
compare them.

Over gRPC: `bench --server HOST:PORT --model NAME` calls a running server from this process, in Python,
which manages a few thousand calls per second. Settings are those of the server.

Latencies count from when a call was due: with --rate, calls arrive at random (Poisson) and do not wait
for one another. Fill is the share of the device's work that was for real rows. Rows of a call without
row batching are the leading dimension of its first input.
"""


def add_to(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="measure throughput, latency and fill, and recommend settings",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "target",
        nargs="*",
        metavar="FILE_OR_SAVEDMODEL",
        help="executable file, SavedModel, or a folder of numbered versions",
    )
    load = parser.add_argument_group("load")
    load.add_argument(
        "--concurrency", type=_integers(1), metavar="LIST", help="calls in flight (default: 1,8,64)"
    )
    load.add_argument(
        "--rate", type=_numbers, metavar="LIST", help="calls per second, instead of --concurrency"
    )
    load.add_argument(
        "--rows", type=_integers(1), metavar="LIST", help="rows of a call (default: 1 with row batching)"
    )
    load.add_argument("--seconds", type=_positive, default=2.0, help="of each measurement (default: 2)")
    load.add_argument(
        "--warm-up-seconds", type=_not_negative, default=0.3, help="before each measurement (default: 0.3)"
    )
    settings = parser.add_argument_group("settings, in process (default: as exported)")
    settings.add_argument("--iterations", type=_integers(1), metavar="LIST", help="steps of a run")
    settings.add_argument(
        "--timeout-us", type=_integers(0), metavar="LIST", help="until a dummy batch pushes out what is held"
    )
    settings.add_argument(
        "--replicas",
        type=_integers(1),
        metavar="LIST",
        help="devices (default: 1, 2, 4, ... up to the number of cores over that of IPUs)",
    )
    settings.add_argument(
        "--max-wait-us",
        type=_integers(0),
        metavar="LIST",
        help="that a row waits for company, with row batching",
    )
    server = parser.add_argument_group("a server")
    server.add_argument("--server", metavar="HOST:PORT", help="gRPC address")
    server.add_argument("--model", metavar="NAME", help="of the model on the server")
    server.add_argument("--model-version", type=int, metavar="N", help="(default: the newest)")
    server.add_argument(
        "--signature", default="serving_default", metavar="NAME", help="(default: serving_default)"
    )
    server.add_argument(
        "--rest", metavar="URL", help="REST address of the server (http://localhost:8501), to learn the fill"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--max-p99-ms", type=_positive, metavar="MS", help="recommend only what stays below it"
    )
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument("--plot", metavar="FILE.png", help="write a plot of p99 over throughput")
    output.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="a bar on stderr (default: when it is a terminal)",
    )
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    if bool(options.target) == bool(options.server):
        options.parser.error("give either executables or --server")
    if options.server and not options.model:
        options.parser.error("--server needs --model")
    if options.concurrency and options.rate:
        options.parser.error("give either --concurrency or --rate")
    if options.plot:
        from tensorflow_ipu.cli import bench_plot

        bench_plot.check(options.plot)
    measurements = list(_over_grpc(options) if options.server else _in_process(options))
    points = _measure(measurements, options)
    if options.json:
        print(json.dumps(_as_json(points, options.max_p99_ms), indent=2))
    else:
        _print(points, options)
    if options.plot:
        bench_plot.write(points, options.plot)
    return 1 if all(point.calls == 0 for point in points) else 0


@dataclass(frozen=True)
class _Measurement:
    setting: Setting
    load: Load
    measure: Callable[[Callable[[float], object]], Point]


def _loads(options: argparse.Namespace, rows: Sequence[int]) -> list[Load]:
    if options.rate:
        return [Load(rate=rate, rows=count) for count in rows for rate in options.rate]
    return [
        Load(concurrency=concurrency, rows=count)
        for count in rows
        for concurrency in options.concurrency or (1, 8, 64)
    ]


def _in_process(options: argparse.Namespace) -> Iterator[_Measurement]:
    cores = len(os.sched_getaffinity(0))
    for target in options.target:
        path = only_executable(target)
        header = read_header(path)
        dynamic = header["dynamic_batch"]
        if options.rows and not dynamic:
            raise CommandError(
                f"{target} was exported without dynamic_batch: a call is one compiled batch, and --rows has "
                "no meaning."
            )
        devices = len({stage["ipu"] for stage in header["stages"]})
        for iterations, timeout_us, replicas, max_wait_us in itertools.product(
            options.iterations or [header["iterations"]],
            options.timeout_us or [header["timeout_us"]],
            options.replicas or _powers(max(cores // devices, 1)),
            (options.max_wait_us if dynamic else None) or [header["max_wait_us"]],
        ):
            setting = Setting(
                name=target,
                batch=compiled_rows(header),
                iterations=iterations,
                timeout_us=timeout_us,
                replicas=replicas,
                max_wait_us=max_wait_us,
                row_batching=dynamic,
                stalls=header["hold"] > 0,
            )
            program = _Lazy(path, iterations)
            for load in _loads(options, (options.rows or [1]) if dynamic else [0]):
                yield _Measurement(setting, load, _native_measurement(program, setting, load, options))


class _Lazy:
    """Loads an executable when it is first used: not all of a table's are in memory at once."""

    def __init__(self, path: str, iterations: int) -> None:
        self._path = path
        self._iterations = iterations

    def load(self) -> Any:
        try:
            return native().LoadProgram(self._path, self._iterations)
        except native().StatusError as error:
            raise CommandError(error.message) from None


def _native_measurement(
    program: _Lazy, setting: Setting, load: Load, options: argparse.Namespace
) -> Callable[[Callable[[float], object]], Point]:
    def measure(progress: Callable[[float], object]) -> Point:
        try:
            result = program.load().drive(
                concurrency=load.concurrency or 1,
                rate=load.rate or 0.0,
                rows=load.rows,
                seconds=options.seconds,
                warm_up_seconds=options.warm_up_seconds,
                timeout_us=setting.timeout_us,
                replicas=setting.replicas,
                max_wait_us=setting.max_wait_us,
                progress=progress,
            )
        except native().StatusError as error:
            raise CommandError(error.message) from None
        # Without row batching the engine counts compiled batches.
        dummies = result["dummy_steps"] * ((setting.batch or 1) if setting.row_batching else 1)
        worked = result["rows"] + result["padded_rows"] + dummies
        return Point(
            setting=setting,
            load=load,
            calls=result["calls"],
            failed=result["failed"],
            failure=result["failure"],
            calls_per_second=result["calls"] / result["seconds"] if result["calls"] else 0.0,
            rows_per_second=(
                result["calls"] * (load.rows or setting.batch or 1) / result["seconds"]
                if result["calls"]
                else 0.0
            ),
            p50_us=result["p50"],
            p90_us=result["p90"],
            p99_us=result["p99"],
            max_us=result["max"],
            fill=result["rows"] / worked if worked else None,
        )

    return measure


def _over_grpc(options: argparse.Namespace) -> Iterator[_Measurement]:
    from tensorflow_ipu.cli import bench_grpc

    for name in ("iterations", "timeout_us", "replicas", "max_wait_us"):
        if getattr(options, name):
            flag = "--" + name.replace("_", "-")
            raise CommandError(
                f"{flag} cannot be changed over gRPC: start the server with its --ipu_ flags, or measure in "
                "process."
            )
    model = bench_grpc.ServedModel(
        options.server, options.model, options.model_version, options.signature, options.rest
    )
    setting = Setting(name=f"{options.model} at {options.server}")

    def measurement(load: Load) -> Callable[[Callable[[float], object]], Point]:
        def measure(progress: Callable[[float], object]) -> Point:
            return model.drive(setting, load, options.seconds, options.warm_up_seconds, progress)

        return measure

    for load in _loads(options, options.rows or [1]):
        yield _Measurement(setting, load, measurement(load))


def _measure(measurements: Sequence[_Measurement], options: argparse.Namespace) -> list[Point]:
    from tensorflow_ipu.progress import resolve_progress

    progress = resolve_progress(options.progress)
    points = []
    for done, measurement in enumerate(measurements):
        what = f"{done + 1} of {len(measurements)}: {measurement.load.text()}, {measurement.setting.text()}"

        def report(share: float, done: int = done, what: str = what) -> None:
            progress(what, min((done + min(share, 1.0)) / len(measurements), 0.999))

        report(0.0)
        points.append(measurement.measure(report))
    progress("done", 1.0)
    return points


def _print(points: Sequence[Point], options: argparse.Namespace) -> None:
    for name, group in itertools.groupby(points, key=lambda point: point.setting.name):
        print(name)
        print(_table(list(group)))
        print()
    failures = [point for point in points if point.failure]
    for point in failures:
        print(f"failed ({point.load.text()}, {point.setting.text()}): {point.failure}")
    for line in recommend(points, options.max_p99_ms):
        print(line)


# The other columns are shown when they say something.
_ALWAYS = ("rows/call", "calls/s", "rows/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "fill")


def _table(points: Sequence[Point]) -> str:
    columns: list[tuple[str, Callable[[Point], str]]] = [
        ("batch", lambda p: _or_dash(p.setting.batch)),
        ("iterations", lambda p: _or_dash(p.setting.iterations)),
        ("timeout us", lambda p: _or_dash(p.setting.timeout_us if p.setting.stalls else None)),
        ("wait us", lambda p: _or_dash(p.setting.max_wait_us if p.setting.row_batching else None)),
        ("replicas", lambda p: _or_dash(p.setting.replicas)),
        ("in flight", lambda p: _or_dash(p.load.concurrency)),
        ("calls/s due", lambda p: _or_dash(p.load.rate)),
        ("rows/call", lambda p: _or_dash(p.load.rows or p.setting.batch)),
        ("calls/s", lambda p: f"{p.calls_per_second:,.0f}"),
        ("rows/s", lambda p: f"{p.rows_per_second:,.0f}"),
        ("p50 ms", lambda p: _milliseconds(p, p.p50_us)),
        ("p90 ms", lambda p: _milliseconds(p, p.p90_us)),
        ("p99 ms", lambda p: _milliseconds(p, p.p99_us)),
        ("max ms", lambda p: _milliseconds(p, p.max_us)),
        ("fill", lambda p: "-" if p.fill is None else f"{p.fill:.0%}"),
        ("failed", lambda p: str(p.failed)),
    ]
    used = [
        (head, text)
        for head, text in columns
        if head in _ALWAYS or any(text(point) not in ("-", "0") for point in points)
    ]
    return table([head for head, _ in used], [[text(point) for _, text in used] for point in points])


def _milliseconds(point: Point, microseconds: float) -> str:
    return f"{microseconds / 1000:.3f}" if point.calls else "-"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _as_json(points: Sequence[Point], max_p99_ms: float | None) -> dict[str, Any]:
    return {
        "points": [asdict(point) for point in points],
        "recommendation": list(recommend(points, max_p99_ms)),
    }


def _powers(limit: int) -> list[int]:
    return [2**power for power in range(limit.bit_length()) if 2**power <= limit]


def _integers(least: int) -> Callable[[str], list[int]]:
    def parse(text: str) -> list[int]:
        try:
            values = [int(part) for part in text.split(",")]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of integers such as 1,8,64") from None
        if min(values) < least:
            raise argparse.ArgumentTypeError(f"{min(values)} is less than {least}")
        return list(dict.fromkeys(values))

    return parse


def _numbers(text: str) -> list[float]:
    return [_positive(part) for part in text.split(",")]


def _positive(text: str) -> float:
    value = _not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("expected a number above 0, found 0")
    return value


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number that is not negative, found {text}")
    return value
