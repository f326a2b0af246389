"""Errors that are for the user of the command line: text, and exit status 1."""

from __future__ import annotations


class CommandError(Exception):
    """Its text says what was found, what was expected and what to do."""
