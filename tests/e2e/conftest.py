"""What end to end tests share: each is tried with each bridge."""

from __future__ import annotations

import pytest

from examples.demo import possible
from tests.tracer.bridges.ebpf.possible import why_no_ebpf


@pytest.fixture(params=["ebpf", "strace"])
def bridge(request: pytest.FixtureRequest) -> str:
    """Each bridge in turn."""
    reason = why_no_ebpf() if request.param == "ebpf" else possible.why_no_program("strace", "strace")
    if reason is not None:
        pytest.skip(reason)
    return str(request.param)
