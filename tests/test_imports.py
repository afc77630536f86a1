"""The command line starts quickly: what only the terminal UI or a crafting tool needs is not loaded for the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parent.parent / "docs/samples/fuseblk-sync.pcapng"

# Run main as the console script does, then tell on stderr's last line what was loaded on the way.
PROGRAM = """
import sys
from tracer.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
loaded = {name.partition(".")[0] for name in sys.modules}
print("\\n" + " ".join(sorted(loaded)), file=sys.stderr)
sys.exit(code)
"""


def loaded_by(*words: str) -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout
    return set(ended.stderr.splitlines()[-1].split())


def test_help_loads_neither_numpy_nor_the_ui_nor_scapy() -> None:
    assert not loaded_by("--help") & {"numpy", "lark", "construct", "textual", "rich", "scapy"}


@pytest.mark.parametrize("command", ["record", "import", "show", "open", "live", "replay", "matrix", "sync", "doctor"])
def test_help_of_a_command_loads_neither_the_ui_nor_scapy(command: str) -> None:
    assert not loaded_by(command, "--help") & {"textual", "rich", "scapy"}


@pytest.mark.parametrize("command", ["show", "sync"])
def test_reading_a_trace_loads_neither_the_ui_nor_scapy_nor_the_reference_parser(command: str) -> None:
    assert not loaded_by(command, str(SAMPLE)) & {"textual", "rich", "scapy", "construct"}
