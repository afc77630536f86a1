"""A device mounted twice, on kernels as Debian has them and with a mended virtiofs."""

from __future__ import annotations

import pytest

from tests.lab.conftest import Ran, RunLab
from tracer.lab.judging import exchanges_in

pytestmark = pytest.mark.vm


def opened(ran: Ran, step: str) -> set[tuple[int, bytes | None]]:
    """Return node and path of every directory that was opened in a step."""
    exchanges = exchanges_in(ran.trace, ran.step(step))
    return {(one.message.nodeid, one.path) for one in exchanges if one.message.name == "OPENDIR"}


@pytest.mark.parametrize("kernel", ["6.1", "newest"])
def test_a_stock_kernel_asks_a_submount_and_the_trace_tells_which(run_lab: RunLab, kernel: str) -> None:
    ran = run_lab("remount", kernel, "c")
    assert (ran.broken(), ran.status) == ([], 0)
    assert opened(ran, "first") == {(1, b"/")}
    ((nodeid, path),) = opened(ran, "second")
    assert ran.step("second").lines == ("THIS_IS_MNT2",)
    assert (path, nodeid > 1) == (b"/mnt2", True)
    told = ran.verdict["findings"][-1]["words"]
    assert told == f"it asked /mnt2 (node {nodeid}) in place of the root: the bug that remount-fixed is without"


def test_with_a_mended_virtiofs_the_root_is_asked_and_shown(run_lab: RunLab) -> None:
    ran = run_lab("remount-fixed", "6.1", "rust")
    assert (ran.broken(), ran.status) == ([], 0)
    assert opened(ran, "second") == {(1, b"/")}
    assert ran.step("second").lines == ("mnt1", "mnt2")
