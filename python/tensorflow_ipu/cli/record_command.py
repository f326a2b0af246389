"""`tensorflow_ipu record`: what an executable answers here, for `device_check` on another machine."""

from __future__ import annotations

import argparse
from typing import Any

from tensorflow_ipu.cli.command_error import CommandError
from tensorflow_ipu.cli.executable_files import native, only_executable


def add_to(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "record",
        help="record what an executable answers",
        description="Runs an executable on random steps and writes what went in and came out. device_check "
        "compares what the same model, compiled for another device, answers there.",
    )
    parser.add_argument(
        "target",
        metavar="FILE_OR_SAVEDMODEL",
        help="executable file, SavedModel, or a folder of numbered versions",
    )
    parser.add_argument("output", metavar="OUTPUT", help="the file to write")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="how many (default: %(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        native().record_steps(only_executable(options.target), options.output, options.steps)
    except native().StatusError as error:
        raise CommandError(error.message) from None
    return 0
