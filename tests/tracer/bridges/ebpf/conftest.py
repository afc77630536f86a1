"""What the tests of the eBPF bridge on real servers share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.conftest import MakeServer
from tests.servers.memory import Memory
from tests.tracer.bridges.ebpf.possible import why_no_ebpf
from tests.unprivileged import NO_CAPABILITIES, NOBODY

WithOnly = Callable[..., list[str]]


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
def with_only() -> WithOnly:
    """Return a function: capabilities -> the words that make the command after them run with these and no others.

    As nobody, or where nobody may not read this checkout as a root without its capabilities.
    """
    probe = [*NOBODY, sys.executable, "-c", "import tracer"]
    is_readable = subprocess.run(probe, capture_output=True, timeout=60, check=False).returncode == 0

    def words(*capabilities: str) -> list[str]:
        added = "".join(f",+{name}" for name in capabilities)
        if not is_readable:
            return [f"{word}{added}" if word.endswith("-all") else word for word in NO_CAPABILITIES]
        return [*NOBODY, f"--inh-caps=-all{added}", f"--ambient-caps=-all{added}"]

    return words
