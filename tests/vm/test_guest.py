"""The guests themselves: the kernel asked for, this machine's files, commands one after another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.vm.conftest import kernel_or_skip
from tests.vm.guest import CHECKOUT, Guest, GuestError

pytestmark = pytest.mark.vm


def test_the_kernel_asked_for_runs_with_types_and_fuse(running: Guest) -> None:
    assert running.run(["uname", "-r"]).checked().strip() == running.kernel.release
    types = running.run(["ls", "/sys/kernel/btf"]).checked().split()
    assert "vmlinux" in types
    filesystems = running.run(["cat", "/proc/filesystems"]).checked().split()
    assert {"fuse", "fuseblk", "virtiofs", "fusectl"} <= set(filesystems)


def test_the_checkout_and_its_python_are_there(running: Guest) -> None:
    what = "import sys, tracer.records; print(sys.prefix, tracer.records.__file__, sep='\\n')"
    prefix, module = running.python("-c", what).checked().splitlines()
    assert (prefix, module) == (sys.prefix, str(CHECKOUT / "tracer" / "records.py"))


def test_what_the_guest_writes_stays_in_the_guest(running: Guest, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.write_text("of the host")
    change = f"echo of the guest > {here}; touch {tmp_path}/new; cat {here}"
    assert running.run(["sh", "-c", change]).checked() == "of the guest\n"
    assert (here.read_text(), list(tmp_path.iterdir())) == ("of the host", [here])


def test_files_pass_through_the_share_both_ways(running: Guest) -> None:
    data = bytes(range(256)) * 4096
    (running.share / "in.bin").write_bytes(data)
    running.run(["cp", "/run/guest/in.bin", "/run/guest/out.bin"]).checked()
    assert (running.share / "out.bin").read_bytes() == data


def test_a_command_ends_with_its_own_status_and_both_streams(running: Guest) -> None:
    result = running.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.status, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_a_command_that_takes_too_long_is_killed_and_the_guest_goes_on(running: Guest) -> None:
    assert running.run(["sleep", "1000"], timeout_s=1).status == 137
    assert running.run(["echo", "alive"]).checked() == "alive\n"


def test_a_guest_that_dies_says_what_its_console_said(tmp_path: Path) -> None:
    kernel = kernel_or_skip("6.12")
    with (
        Guest(kernel, tmp_path, cpus=1, memory_mib=512) as guest,
        pytest.raises(GuestError, match=r"(?s)died in sh -c .*Kernel panic - not syncing: sysrq triggered crash"),
    ):
        guest.run(["sh", "-c", "echo c > /proc/sysrq-trigger"])


def test_a_guest_that_qemu_refuses_says_what_qemu_said(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match=r"(?s)died in the boot .*no-such-device"):
        Guest(kernel_or_skip("6.12"), tmp_path, qemu_options=("-device", "no-such-device")).__enter__()
