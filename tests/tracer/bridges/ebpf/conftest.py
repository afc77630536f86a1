"""What the tests of the eBPF bridge on real servers share."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import MakeServer
from tests.servers.memory import Memory
from tests.tracer.bridges.ebpf.possible import why_no_ebpf

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture
def ebpf() -> None:
    """Skip where the programs cannot be loaded."""
    if (reason := why_no_ebpf()) is not None:
        pytest.skip(reason)


@pytest.fixture
def memory(make_server: MakeServer) -> Memory:
    """The server in C with a journal, not started."""
    return make_server(Memory, with_journal=True)


@pytest.fixture
def as_nobody() -> list[str]:
    """The words that make the command after them run as nobody; skips where nobody cannot read what it is to run."""
    probe = [*NOBODY, sys.executable, "-c", "import tracer"]
    if subprocess.run(probe, capture_output=True, timeout=60, check=False).returncode != 0:
        pytest.skip("the user nobody may not read this checkout")
    return NOBODY
