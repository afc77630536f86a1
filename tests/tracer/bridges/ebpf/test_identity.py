"""What is remembered of connections whose number was given to others since."""

from __future__ import annotations

import time

import pytest

from tracer.bridges.ebpf.identity import Directory, OpenDevice

NUMBER = 1 << 30  # no mount of this machine has it


@pytest.fixture
def devices() -> list[OpenDevice]:
    return []


def held(tgid: int, minor: int = 0) -> OpenDevice:
    return OpenDevice(tgid, 4, NUMBER, minor, 0, 0)


def test_what_is_gone_is_still_known(devices: list[OpenDevice]) -> None:
    with Directory(lambda: devices) as directory:
        devices[:] = [held(100)]
        directory.look_round()
        devices[:] = []
        assert directory.look_up(NUMBER).server_pid == 100


def test_of_one_number_each_connection_is_known_by_its_time(devices: list[OpenDevice]) -> None:
    with Directory(lambda: devices) as directory:
        begun_ns = []
        for tgid in (100, 200, 300):
            begun_ns.append(time.monotonic_ns())
            devices[:] = [held(tgid)]
            directory.look_round()
        spans = zip(begun_ns, [*begun_ns[1:], 0], strict=True)
        assert [directory.look_up(NUMBER, since, until).server_pid for since, until in spans] == [100, 200, 300]


def test_one_that_nobody_saw_is_not_taken_for_the_next(devices: list[OpenDevice]) -> None:
    with Directory(lambda: devices) as directory:
        since_ns = time.monotonic_ns()
        until_ns = time.monotonic_ns()
        devices[:] = [held(200)]
        assert directory.look_up(NUMBER, since_ns, until_ns).servers == ()
        assert directory.look_up(NUMBER, until_ns).server_pid == 200


def test_what_init_agrees_on_makes_no_other_connection(devices: list[OpenDevice]) -> None:
    with Directory(lambda: devices) as directory:
        since_ns = time.monotonic_ns()
        for minor in (0, 45):
            devices[:] = [held(100, minor)]
            directory.look_round()
        identity = directory.look_up(NUMBER, since_ns)
        assert [(device.tgid, device.minor) for device in identity.servers] == [(100, 45)]
