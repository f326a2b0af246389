"""What was measured under which settings and which load."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """What can be set; None where a server has its own and does not tell."""

    name: str
    batch: int | None = None
    iterations: int | None = None
    timeout_us: int | None = None
    replicas: int | None = None
    max_wait_us: int | None = None
    row_batching: bool = False
    stalls: bool = False

    def text(self) -> str:
        parts = [f"batch {self.batch}", f"iterations {self.iterations}", f"replicas {self.replicas}"]
        if self.stalls:
            parts.append(f"timeout {self.timeout_us} us")
        if self.row_batching:
            parts.append(f"wait {self.max_wait_us} us")
        return ", ".join(parts) if self.batch is not None else self.name

    def legend(self) -> str:
        """For where several executables may be meant."""
        return (
            f"{self.name.rstrip(os.sep).split(os.sep)[-1]}: {self.text()}"
            if self.batch is not None
            else self.name
        )


@dataclass(frozen=True)
class Load:
    """Either concurrency, calls in flight, or rate, calls due per second.

    rows: of each call; 0 is the compiled batch.
    """

    concurrency: int | None = None
    rate: float | None = None
    rows: int = 0

    def text(self) -> str:
        calls = f"{self.rate:g} calls/s" if self.rate else f"{self.concurrency} in flight"
        return calls + (f", {self.rows} rows each" if self.rows > 1 else "")


@dataclass(frozen=True)
class Point:
    """One line of the table. Latencies are 0 when no call succeeded; fill is None when it is not known."""

    setting: Setting
    load: Load
    calls: int
    failed: int
    failure: str
    calls_per_second: float
    rows_per_second: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float
    fill: float | None

    def sustained(self) -> bool:
        """Every call succeeded, and calls that were due at a rate were answered at that rate."""
        keeps_up = self.load.rate is None or self.calls_per_second >= 0.9 * self.load.rate
        return self.calls > 0 and self.failed == 0 and keeps_up
