"""The target of an executable in words, and compared with what this machine offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tensorflow_ipu.cli.text_table import count_text, size_text


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `state` is "ok", "note" (does not keep it from running) or "bad"."""

    subject: str
    state: str
    text: str


def compare(subject: str, found: str, expected: str, same: bool, otherwise: str = "bad") -> Finding:
    """A value of the executable beside the one here."""
    text = found if found == expected else f"{found or 'none'}; here: {expected or 'none'}"
    return Finding(subject, "ok" if same else otherwise, text)


def describe_target(target: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of name and text for `inspect`."""
    return _describe_ipu(target) if target["kind"] == "ipu" else _describe_pjrt(target)


def memory_of_device(target: dict[str, Any]) -> int:
    """Bytes of a device; 0 when the target does not say."""
    return target["tiles_per_ipu"] * target["memory_per_tile"] if target["kind"] == "ipu" else 0


def compare_target(target: dict[str, Any], offers: list[dict[str, Any]]) -> Iterator[Finding]:
    """The target beside those that this process can run, which are of its kind."""
    yield from (_compare_ipu if target["kind"] == "ipu" else _compare_pjrt)(target, offers)


def _describe_ipu(target: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            "target",
            f"{target['type']} {target['architecture']}, {count_text(target['num_ipus'], 'IPU')} of "
            f"{count_text(target['tiles_per_ipu'], 'tile')} with {size_text(target['memory_per_tile'])} "
            f"({size_text(memory_of_device(target))} an IPU)",
        ),
        ("code for CPU", f"{target['cpu']} ({', '.join(target['cpu_features']) or 'no features'})"),
    ]


def _compare_ipu(target: dict[str, Any], offers: list[dict[str, Any]]) -> Iterator[Finding]:
    here = offers[0]
    yield compare("target", target["type"], here["type"], target["type"] == here["type"])
    architectures = [offer["architecture"] for offer in offers]
    known = target["architecture"] in architectures
    yield compare(
        "architecture",
        target["architecture"],
        target["architecture"] if known else ", ".join(architectures),
        known,
    )
    missing = [feature for feature in target["cpu_features"] if feature not in here["cpu_features"]]
    yield Finding(
        "CPU",
        "bad" if missing else "ok",
        f"code for {target['cpu']}; this machine has not: {', '.join(missing)}"
        if missing
        else f"code for {target['cpu']}; this machine has the {len(target['cpu_features'])} features it uses",
    )


def _plugin_text(plugin: dict[str, Any]) -> str:
    package = f"{plugin['package']} {plugin['version']}" if plugin["package"] else "no package"
    return f"{package}, PJRT API {plugin['api_major']}.{plugin['api_minor']}, SHA-256 {plugin['sha256']}"


def _device_text(target: dict[str, Any]) -> str:
    capability = f", capability {target['capability']}" if target["capability"] else ""
    return f"{target['device_kind']}{capability}"


def _describe_pjrt(target: dict[str, Any]) -> list[tuple[str, str]]:
    attributes = target["plugin"]["attributes"]
    rows = [
        (
            "target",
            f"{target['name']}: PJRT platform {target['platform']}, "
            f"{count_text(target['num_ipus'], 'device')} '{_device_text(target)}'",
        ),
        ("plugin", _plugin_text(target["plugin"])),
    ]
    if target["platform_version"]:  # known of code that was compiled where the device is
        rows.append(("platform version", target["platform_version"]))
    if attributes:
        rows.append(("plugin tells", ", ".join(f"{name} {attributes[name]}" for name in sorted(attributes))))
    return rows


def _compare_pjrt(target: dict[str, Any], offers: list[dict[str, Any]]) -> Iterator[Finding]:
    plugin = target["plugin"]
    if not offers:
        yield Finding(
            "plugin",
            "bad",
            f"{_plugin_text(plugin)}; here: no PJRT plugin. Install that package, or name its library with "
            "TFIPU_DEVICE_PLUGIN",
        )
        return
    # The one that is the most like it.
    here = max(
        offers,
        key=lambda offer: (
            offer["plugin"]["sha256"] == plugin["sha256"],
            offer["plugin"]["package"] == plugin["package"],
            offer["platform"] == target["platform"],
        ),
    )
    if here["problem"]:
        yield Finding("plugin starts", "bad", here["problem"])
    found, expected = (f"{p['package']} {p['version']}".strip() for p in (plugin, here["plugin"]))
    yield compare("plugin", found, expected, found == expected, "note")
    found, expected = (f"{p['api_major']}.{p['api_minor']}" for p in (plugin, here["plugin"]))
    yield compare("PJRT API", found, expected, found == expected)
    found, expected = plugin["sha256"], here["plugin"]["sha256"]
    yield compare("plugin SHA-256", found, expected, found == expected)
    for name in sorted({*plugin["attributes"], *here["plugin"]["attributes"]}):
        found, expected = (p["attributes"].get(name, "") for p in (plugin, here["plugin"]))
        yield compare(name, found, expected, found == expected)
    if here["problem"]:
        return
    yield compare("platform", target["platform"], here["platform"], target["platform"] == here["platform"])
    if found := target["platform_version"]:
        yield compare("platform version", found, here["platform_version"], found == here["platform_version"])
    found, expected = _device_text(target), _device_text(here)
    yield compare("device", found, expected, found == expected)
    found, expected = str(target["num_ipus"]), str(here["num_ipus"])
    yield compare("devices", found, expected, target["num_ipus"] <= here["num_ipus"])
