"""How much a pipeline of two equal stages on two emulated IPUs does in the time of the same model as a single
step.

    python pipeline_overlap.py [--size 1024] [--calls 400] [--callers 4]

Wants two free cores: the ratio is near 2 when each stage has one of its own. Prints batches a second of the
single step and of each schedule, and the ratio to the single step.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, default=1024, help="of the square matrices that a stage multiplies by"
    )
    parser.add_argument("--depth", type=int, default=4, help="products in a stage")
    parser.add_argument("--calls", type=int, default=400, help="batches that are run")
    parser.add_argument("--callers", type=int, default=4, help="threads that call at the same time")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the best counts")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    import tensorflow as tf
    from tensorflow_ipu import serving
    from tensorflow_ipu.config import IPUConfig
    from tensorflow_ipu.pipelining_ops import PipelineSchedule

    config = IPUConfig()
    config.auto_select_ipus = 2
    config.configure_ipu_system()
    scale = arguments.size**-0.5
    weights = [tf.random.stateless_normal([arguments.size] * 2, [seed, 1]) * scale for seed in (1, 2)]

    def stage(index: int) -> Callable:
        def run(x: Any) -> Any:
            for _ in range(arguments.depth):
                x = tf.tanh(tf.linalg.matmul(x, weights[index]))
            return x

        return run

    signature = [tf.TensorSpec([16, arguments.size])]
    x = tf.ones(signature[0].shape)
    with tempfile.TemporaryDirectory() as workspace:
        single = serving.export_single_step(
            lambda x: stage(1)(stage(0)(x)), os.path.join(workspace, "single"), 100, signature
        )
        functions = {"single step": single}
        for schedule in PipelineSchedule:
            functions[f"pipeline, {schedule.name}"] = serving.export_pipeline(
                [stage(0), stage(1)],
                os.path.join(workspace, schedule.name),
                100,
                pipeline_schedule=schedule,
                predict_step_signature=signature,
            )
        rates = {
            name: max(
                throughput(lambda run=run: run(x), arguments.calls, arguments.callers)
                for _ in range(arguments.repeats)
            )
            for name, run in functions.items()
        }
    for name, rate in rates.items():
        print(f"{name:24}{rate:10.1f} batches/s{rate / rates['single step']:8.2f}")


def throughput(call: Callable[[], Any], calls: int, callers: int) -> float:
    """Calls a second of several threads together."""
    for _ in range(3):
        call()

    def work() -> None:
        for _ in range(calls // callers):
            call()

    threads = [threading.Thread(target=work) for _ in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return calls // callers * callers / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
