"""A server's command is checked before anything is started."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.unprivileged import ROOT, ordinary

PROGRAM = """
import sys
from tracer.bridges.host.server import check_server
from tracer.errors import TracerError
try:
    check_server(sys.argv[1:])
except TracerError as error:
    print(error.message)
"""


def test_a_program_in_a_closed_directory_is_said_not_to_be_there(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    words = [*ordinary().words, "-c", PROGRAM, str(closed / "server")]
    closed.chmod(0)  # asking what lies in it raised PermissionError
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    assert done.stdout == f"{closed}/server is not there, nor on PATH\n"
