"""Which machine the figures come from; nothing that names it or says where files lie."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path


def describe(pinned_to: int) -> list[tuple[str, str]]:
    """Return what a reader of the figures must know of the machine and the programs."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        ("processor", f"{processor()}, {os.cpu_count()} of them, {_virtual()}pinned to number {pinned_to}"),
        ("memory", f"{memory_bytes / 2**30:.0f} GiB"),
        ("kernel", f"Linux {platform.release().split('-')[0]}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("libraries", ", ".join(f"{name} {version(name)}" for name in ("numpy", "orjson", "construct"))),
        ("tshark", tshark_version() or "not installed: nothing to compare with"),
        ("load at the start", load),
    ]


def processor() -> str:
    """Return the model name of the processor."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _virtual() -> str:
    return "a virtual machine, " if re.search(r"\bhypervisor\b", Path("/proc/cpuinfo").read_text()) else ""


def short_name() -> str:
    """Return the machine in a few characters, for a file's name."""
    word = re.sub(r"\(R\)|\(TM\)|CPU|Processor|@.*", "", processor()).strip().lower()
    return re.sub(r"[^a-z0-9]+", "-", f"{word} {os.cpu_count()} cores").strip("-")


def tshark_version() -> str:
    """Return tshark's version, empty when it is not installed."""
    if shutil.which("tshark") is None:
        return ""
    text = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"TShark[^\d]*([\d.]+\d)", text)
    return found[1] if found else "unknown version"
