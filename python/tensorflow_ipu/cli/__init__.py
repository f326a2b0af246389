"""The command `tensorflow_ipu`: looks into executables, says whether they run here, and measures them.

Exit status: 0 it worked (and, for `doctor`, the executable runs here); 1 it did not, and the output says why;
2 the command line is wrong; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import tensorflow_ipu.cli.bench_command as bench_command
import tensorflow_ipu.cli.doctor_command as doctor_command
import tensorflow_ipu.cli.inspect_command as inspect_command
import tensorflow_ipu.cli.record_command as record_command
from tensorflow_ipu.cli.command_error import CommandError

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tensorflow_ipu", description="Looks into precompiled IPU executables, checks and measures them."
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in (inspect_command, doctor_command, bench_command, record_command):
        command.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      arguments: without the program's name; None: those of this process.

    Returns:
      The exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.version:
        from tensorflow_ipu import __version__

        print(f"tensorflow_ipu {__version__}")
        return 0
    if options.command is None:
        parser.error("a command is missing: inspect, doctor, bench or record")
    try:
        return options.run(options)
    except CommandError as error:
        print(f"tensorflow_ipu {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"tensorflow_ipu {options.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
