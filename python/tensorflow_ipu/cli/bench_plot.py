"""A plot of a benchmark. Needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tensorflow_ipu.cli.bench_point import Point, Setting
from tensorflow_ipu.cli.command_error import CommandError


def check(path: str) -> None:
    """Fails before minutes of measuring, not after.

    Raises:
      CommandError: matplotlib is missing, or there is no such folder.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise CommandError("--plot needs matplotlib: pip install 'tensorflow-ipu[bench]'") from None
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise CommandError(f"--plot: the folder {folder} does not exist.")


def write(points: Sequence[Point], path: str) -> None:
    """p99 over throughput, a line for each setting, a mark for each load.

    Raises:
      CommandError: the file cannot be written, or is of a kind that matplotlib does not know.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines: dict[tuple[Setting, int], list[Point]] = {}
    for point in points:
        if point.calls:
            lines.setdefault((point.setting, point.load.rows), []).append(point)
    figure, axes = pyplot.subplots(figsize=(9, 6))
    for position, ((setting, rows), line) in enumerate(lines.items()):
        label = setting.legend() + (f", {rows} rows a call" if rows > 1 else "")
        axes.plot(
            [point.rows_per_second for point in line],
            [point.p99_us / 1000 for point in line],
            # Ten colours, then another mark.
            marker="osD^v"[position // 10 % 5],
            label=label,
        )
        for point in line:
            text = f"{point.load.rate:g}/s" if point.load.rate else str(point.load.concurrency)
            axes.annotate(
                text,
                (point.rows_per_second, point.p99_us / 1000),
                textcoords="offset points",
                xytext=(4, 4),
                fontsize=8,
            )
    axes.set_xlabel("rows per second")
    axes.set_ylabel("p99 latency, ms")
    axes.set_xlim(left=0)
    if lines:
        axes.set_yscale("log")
        axes.legend(fontsize=8)
    axes.grid(True, which="both", alpha=0.3)
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise CommandError(f"--plot {path}: {error}") from None
    finally:
        pyplot.close(figure)
