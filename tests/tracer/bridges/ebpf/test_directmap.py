"""The place of the direct map, found by asking a kernel; and that nothing is made up where it cannot be found."""

from __future__ import annotations

import os
import platform

import numpy as np
import pytest

from examples.demo import possible
from tests.tracer.bridges.ebpf.captured import capturing, why_not_built
from tracer.bridges.ebpf import directmap
from tracer.bridges.ebpf.programs import Config

BASE = 0x5088_0000_0000_0000


class Kernel:
    """Answers as the program does, for pages at made-up addresses."""

    def __init__(self, *constants: int) -> None:
        self.constants = list(constants)
        self.marks: list[bytes] = []

    def ask(self, query: np.ndarray) -> None:
        assert query["range"][0] > 0
        self.marks.append(os.read(int(query["fd"][0]), 4096)[:16])
        assert self.marks[-1] == query["mark"][0].tobytes()
        query["constant"] = self.constants.pop(0)


@pytest.fixture(autouse=True)
def _of_this_machine() -> None:
    if platform.machine() != "x86_64":
        pytest.skip(f"the formula is known for x86-64 only, not for {platform.machine()}")


def test_two_pages_with_different_marks_must_agree() -> None:
    kernel = Kernel(BASE, BASE)
    assert directmap.find(kernel.ask) == BASE
    assert len(set(kernel.marks)) == 2


@pytest.mark.parametrize("answers", [(0,), (BASE, 0), (BASE, BASE + (1 << 30))])
def test_an_answer_that_is_missing_or_changes_is_none(answers: tuple[int, ...]) -> None:
    assert directmap.find(Kernel(*answers).ask) is None


def test_a_kernel_that_does_not_run_the_program_has_no_known_direct_map() -> None:
    def refuse(query: np.ndarray) -> None:
        raise OSError(22, "Invalid argument")

    assert directmap.find(refuse) is None


def test_descriptors_are_closed_again() -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    directmap.find(Kernel(BASE, BASE).ask)
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


@pytest.mark.e2e
@pytest.mark.root
@pytest.mark.skipif(possible.why_not_root() is not None, reason=str(possible.why_not_root()))
@pytest.mark.skipif(why_not_built() is not None, reason=str(why_not_built()))
def test_the_running_kernel_betrays_its_direct_map_each_time_the_same() -> None:
    with capturing(Config()) as one, capturing(Config()) as other:
        assert one.programs.direct_map is not None
        assert one.programs.direct_map == other.programs.direct_map
        assert one.programs.notes == ()
