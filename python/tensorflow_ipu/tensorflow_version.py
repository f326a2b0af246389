"""Which TensorFlow is there, and whether it is the one that the native code was built with.

The package does not depend on a distribution by name: `tensorflow` and `tensorflow-cpu` hold the same modules
and libraries, and pip cannot ask for either of them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

NEEDED = "2.21.0"
_DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu")


def check() -> None:
    """Raises ImportError with what was found, what is needed and what to do. TensorFlow is not imported."""
    found = _found()
    if found and all(version == NEEDED for version in found.values()):
        return
    names = " and ".join(f"{name} {version}" for name, version in found.items()) or "none"
    raise ImportError(
        f"tensorflow_ipu needs TensorFlow {NEEDED}, whose libraries its native code was built with, and "
        f"found {names}. Install it: pip install tensorflow=={NEEDED} (or tensorflow-cpu=={NEEDED})"
    )


def _found() -> dict[str, str]:
    """Versions of installed distributions. With several, whose files are there is not known."""
    spec = importlib.util.find_spec("tensorflow")
    # Our own alias `tensorflow.python.ipu` alone makes a package without a file.
    if spec is None or spec.origin is None:
        return {}
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found or {"a build of another name": "at " + spec.origin}
