"""Guests as fixtures: one boot for each kernel, shared by all tests of that kernel."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.base import seed
from tests.vm import guest, virtiofsd
from tracer.lab import kernels

TAG = "shared"
NAMES = os.environ.get("FUSEWIRE_GUEST_KERNELS", "6.1 6.12").split()


@dataclass(frozen=True, slots=True)
class Booted:
    """A running guest, and the directory of this machine that virtiofsd serves to it, if one does."""

    guest: guest.Guest
    shared: Path | None


def kernel_or_skip(series: str) -> kernels.Kernel:
    """Return the kernel, or skip with the true reason why no guest can boot it here."""
    if (reason := guest.why_not()) is not None:
        pytest.skip(reason)
    try:
        kernels.busybox()
        return kernels.kernel(series)
    except kernels.Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session", params=NAMES)
def booted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A guest of every kernel in turn, with a virtiofs device where that is possible."""
    kernel = kernel_or_skip(request.param)
    directory = tmp_path_factory.mktemp(f"guest-{request.param}")
    shared = directory / "shared" if virtiofsd.why_not() is None else None
    with contextlib.ExitStack() as stack:
        devices = {}
        if shared is not None:
            seed(shared)
            devices[TAG] = stack.enter_context(virtiofsd.serving(shared))
        yield Booted(stack.enter_context(guest.Guest(kernel, directory, virtiofs=devices)), shared)


@pytest.fixture
def running(booted: Booted) -> guest.Guest:
    """The guest alone."""
    return booted.guest


@pytest.fixture
def shared(booted: Booted) -> Path:
    """The directory that the guest may mount by virtiofs as `TAG`."""
    if booted.shared is None:
        pytest.skip(virtiofsd.why_not() or "")
    return booted.shared
