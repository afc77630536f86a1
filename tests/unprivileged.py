"""Python as an ordinary user, for tests that run as root: no capability, no mount."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOBODY_ID = 65534
NOBODY = ("setpriv", f"--reuid={NOBODY_ID}", f"--regid={NOBODY_ID}", "--clear-groups")
NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
# what is imported, and Python started again by its own name: it may lie where others may not look
_PROBE = "import subprocess, sys, dissectors.reference; subprocess.run([sys.executable, '-c', ''], check=True)"


@dataclass(frozen=True)
class Ordinary:
    """The words that run Python on this checkout as an ordinary user, and who that is."""

    words: tuple[str, ...]
    uid: int

    def own(self, directory: Path) -> None:
        """Give a directory and all in it to the user."""
        for path in (directory, *directory.rglob("*")):
            os.chown(path, self.uid, self.uid, follow_symlinks=False)


@functools.cache
def ordinary() -> Ordinary:
    """Return ourselves when we are no root, else nobody; a root without capabilities where nobody may not read this."""
    if os.geteuid() != 0:
        return Ordinary((sys.executable,), os.geteuid())
    packages = ("env", f"PYTHONPATH={ROOT}:{sysconfig.get_path('purelib')}", "HOME=/nonexistent")
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, system):
        words = (*NOBODY, *packages, python)
        if subprocess.run([*words, "-c", _PROBE], capture_output=True, timeout=60, check=False).returncode == 0:
            return Ordinary(words, NOBODY_ID)
    return Ordinary((*NO_CAPABILITIES, sys.executable), 0)
