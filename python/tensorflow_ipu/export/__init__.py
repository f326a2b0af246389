"""The export of functions as a SavedModel with an executable."""

from __future__ import annotations

from tensorflow_ipu.export.options import ExportOptions, HostStepArguments, ProgramOptions
from tensorflow_ipu.export.stages import export_stages, program_name

__all__ = ["ExportOptions", "HostStepArguments", "ProgramOptions", "export_stages", "program_name"]
