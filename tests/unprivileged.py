"""Python as an ordinary user, for tests that run as root: no capability, no mount."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
import sysconfig
import tempfile
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
    root: Path = ROOT  # where the user finds this checkout

    def path(self, path: str | Path) -> str:
        """Return where the user finds a file of this checkout; any other is where it is."""
        file = Path(path)
        return str(self.root / file.relative_to(ROOT) if file.is_relative_to(ROOT) else path)

    def own(self, directory: Path) -> None:
        """Give a directory and all in it to the user."""
        for path in (directory, *directory.rglob("*")):
            os.chown(path, self.uid, self.uid, follow_symlinks=False)


@functools.cache
def ordinary() -> Ordinary:
    """Return ourselves when we are no root, else nobody; a root without capabilities where nobody can read nothing."""
    if os.geteuid() != 0:
        return Ordinary((sys.executable,), os.geteuid())
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for before, root in (((), ROOT), _opened()):
        for python in (sys.executable, system):
            words = (*before, *NOBODY, *_packages(root), python)
            if subprocess.run([*words, "-c", _PROBE], capture_output=True, timeout=60, check=False).returncode == 0:
                return Ordinary(words, NOBODY_ID, root)
    return Ordinary((*NO_CAPABILITIES, sys.executable), 0)


def _packages(root: Path) -> tuple[str, ...]:
    """Return words that let Python import this checkout, which is to be read at `root`, and what is installed in it."""
    installed = Path(sysconfig.get_path("purelib"))
    if installed.is_relative_to(ROOT):
        installed = root / installed.relative_to(ROOT)
    return "env", f"PYTHONPATH={root}:{installed}", "HOME=/nonexistent"


def _opened() -> tuple[tuple[str, ...], Path]:
    """Return words under which this checkout can also be read at another place, where no closed directory is above."""
    place = Path(tempfile.mkdtemp(prefix="fusewire-open-"))
    atexit.register(place.rmdir)
    place.chmod(0o755)
    bind = 'mount --bind "$0" "$1" && shift && exec "$@"'
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", bind, str(ROOT), str(place)), place
