"""Which of the measured settings to use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tensorflow_ipu.cli.bench_point import Point

# Throughputs closer than this to the best are as good: measurements on a machine in use differ by more.
_TIE = 0.05


def recommend(points: Sequence[Point], max_p99_ms: float | None) -> Iterator[str]:
    """Lines of text: what gives most rows per second, and what answers fastest.

    Among settings that are as good, the one with the lower p99 is taken, then the one with fewer replicas.

    Args:
      max_p99_ms: settings whose p99 is above it are left out.
    """
    good = [
        point
        for point in points
        if point.sustained() and (max_p99_ms is None or point.p99_us <= 1000 * max_p99_ms)
    ]
    if not good:
        limit = "" if max_p99_ms is None else f" with a p99 of at most {max_p99_ms:g} ms"
        yield f"Recommended: nothing. No measurement kept up with its load without failures{limit}."
        return
    best = max(point.rows_per_second for point in good)
    most = min(
        (point for point in good if point.rows_per_second >= (1 - _TIE) * best),
        key=lambda point: (point.p99_us, point.setting.replicas or 0),
    )
    yield f"Recommended for throughput: {_result(most)}"
    yield from _how(most)
    fastest = min(good, key=lambda point: (point.p50_us, point.setting.replicas or 0))
    if fastest.setting != most.setting:
        yield f"Recommended for latency: {_result(fastest)}"
        yield from _how(fastest)


def _result(point: Point) -> str:
    fill = "" if point.fill is None else f", fill {point.fill:.0%}"
    return (
        f"{point.setting.legend()}; {point.rows_per_second:,.0f} rows/s at {point.load.text()}, "
        f"p50 {point.p50_us / 1000:.3f} ms, p99 {point.p99_us / 1000:.3f} ms{fill}"
    )


def _how(point: Point) -> Iterator[str]:
    setting = point.setting
    if setting.batch is None:
        return
    flags = [f"--ipu_replicas={setting.replicas}"]
    arguments = [f"iterations={setting.iterations}", f"replicas={setting.replicas}"]
    if setting.stalls:
        flags.append(f"--ipu_timeout_us={setting.timeout_us}")
        arguments.append(f"timeout_us={setting.timeout_us}")
    if setting.row_batching:
        flags.append(f"--ipu_max_wait_us={setting.max_wait_us}")
    yield f"  at export: {', '.join(arguments)}; at the server: {' '.join(flags)}"
