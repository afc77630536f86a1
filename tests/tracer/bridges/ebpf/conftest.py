"""What the tests of the eBPF bridge on real servers share."""

from __future__ import annotations

import pytest

from tests.conftest import MakeServer
from tests.servers.memory import Memory
from tests.tracer.bridges.ebpf.possible import why_no_ebpf


@pytest.fixture
def ebpf() -> None:
    """Skip where the programs cannot be loaded."""
    if (reason := why_no_ebpf()) is not None:
        pytest.skip(reason)


@pytest.fixture
def memory(make_server: MakeServer) -> Memory:
    """The server in C with a journal, not started."""
    return make_server(Memory, with_journal=True)
