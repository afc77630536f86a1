"""The filters of a server's system calls: the numbers are the kernel's, and a program decides as its rules say.

A program of another machine cannot be run here; so both are interpreted, and the one of this machine is run by all
other tests of these transports.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import struct
import subprocess
from pathlib import Path

import pytest

from replays.transports import syscalls
from replays.transports.bpf import FUSE_DEV_IOC_CLONE, NO_MOUNTS, OUR_MOUNTS, WHOLE_REPLIES, program
from replays.transports.syscalls import AARCH64, ABIS, X86_64, Abi
from tracer.errors import TracerError

ALLOW, NOTIFY, KILL = 0x7FFF0000, 0x7FC00000, 0x80000000
REFUSE = 0x00050000
FD_RULES, MOUNT_RULES = WHOLE_REPLIES + NO_MOUNTS, WHOLE_REPLIES + OUR_MOUNTS
BOTH = pytest.mark.parametrize("abi", ABIS.values(), ids=ABIS)


def decide(code: bytes, number: int, *arguments: int, arch: int) -> int:
    """Run a program over struct seccomp_data, as net/core/filter.c does with the instructions we use."""
    words = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, arch, 0, *words)
    instructions = list(struct.iter_unpack("<HBBI", code))
    accumulator = at = 0
    while True:
        operation, if_true, if_false, constant = instructions[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif operation == 0x54:
            accumulator &= constant
        elif operation in (0x15, 0x35):
            holds = accumulator == constant if operation == 0x15 else accumulator >= constant
            at += if_true if holds else if_false
        else:
            assert operation == 0x06
            return constant


def verdict(abi: Abi, rules: tuple, call: str, *arguments: int) -> int:  # type: ignore[type-arg]
    return decide(program(abi, rules), abi.calls[call], *arguments, arch=abi.audit_arch)


@pytest.mark.parametrize(
    ("abi", "header"),
    [(X86_64, "x86_64-linux-gnu/asm/unistd_64.h"), (AARCH64, "asm-generic/unistd.h")],
    ids=["x86_64", "aarch64"],
)
def test_the_numbers_are_those_of_the_kernels_headers(abi: Abi, header: str) -> None:
    path = Path("/usr/include") / header
    if not path.exists():
        pytest.skip(f"{path} is not there (Debian package linux-libc-dev of {abi.name})")
    # 32-bit fcntl has another name there: __NR3264_fcntl
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text()))
    assert {name: int(found[name]) for name in abi.calls} == abi.calls
    assert ("open" in found) == ("open" in abi.calls)


def test_the_constants_are_those_of_the_kernels_headers(tmp_path: Path) -> None:
    source = tmp_path / "constants.c"
    source.write_text(
        "#include <stdio.h>\n#include <linux/audit.h>\n#include <linux/fuse.h>\n#include <sys/ioctl.h>\n"
        'int main(void) { printf("%u %u %u", AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64, (unsigned)FUSE_DEV_IOC_CLONE); }\n'
    )
    subprocess.run(["gcc", "-o", tmp_path / "constants", source], check=True, timeout=60)
    said = subprocess.run([tmp_path / "constants"], capture_output=True, check=True, timeout=60).stdout
    assert tuple(map(int, said.split())) == (X86_64.audit_arch, AARCH64.audit_arch, FUSE_DEV_IOC_CLONE)


@BOTH
@pytest.mark.parametrize("rules", [FD_RULES, MOUNT_RULES])
def test_replies_cannot_be_spliced_nor_pipes_grown(abi: Abi, rules: tuple) -> None:  # type: ignore[type-arg]
    assert verdict(abi, rules, "vmsplice") == REFUSE | errno.EINVAL
    assert verdict(abi, rules, "splice", 3, 0, 4, 0, 4096) == REFUSE | errno.EINVAL
    assert verdict(abi, rules, "fcntl", 3, 1031, 1 << 20) == REFUSE | errno.EPERM
    assert verdict(abi, rules, "fcntl", 3, 4, os.O_NONBLOCK) == ALLOW


@BOTH
def test_a_device_opened_for_both_ways_is_ours_to_answer_and_other_opens_are_not(abi: Abi) -> None:
    for call, at in (("open", 1), ("openat", 2)):
        if call not in abi.calls:
            continue
        for flags, wanted in (
            (os.O_RDWR, NOTIFY),
            (os.O_RDWR | os.O_CLOEXEC, NOTIFY),
            (os.O_RDONLY, ALLOW),
            (os.O_WRONLY, ALLOW),
            (os.O_RDWR | os.O_CREAT, ALLOW),
            (os.O_RDWR | 0o20000000, ALLOW),
        ):
            arguments = [0] * at + [flags]
            assert verdict(abi, MOUNT_RULES, call, *arguments) == wanted, (call, flags)


@BOTH
def test_what_mounts_is_answered_or_refused(abi: Abi) -> None:
    for call in ("mount", "umount2", "fsopen", "move_mount"):
        assert verdict(abi, MOUNT_RULES, call) == NOTIFY
        assert verdict(abi, FD_RULES, call) == REFUSE | errno.EPERM
    for call in ("openat2", "fsconfig", "fsmount"):
        assert verdict(abi, MOUNT_RULES, call) == NOTIFY


@BOTH
def test_a_second_device_of_the_same_session_is_granted(abi: Abi) -> None:
    assert verdict(abi, MOUNT_RULES, "ioctl", 5, FUSE_DEV_IOC_CLONE) == REFUSE | 0  # errno 0 is success
    assert verdict(abi, MOUNT_RULES, "ioctl", 5, 0x5401) == ALLOW


@BOTH
def test_calls_of_another_machine_do_not_get_by(abi: Abi) -> None:
    code = program(abi, MOUNT_RULES)
    assert decide(code, 21, arch=0x40000003) == KILL  # i386's mount(2)
    assert decide(code, 165 | 0x40000000, arch=abi.audit_arch) == REFUSE | errno.ENOSYS  # x32's
    assert decide(code, 9999, arch=abi.audit_arch) == ALLOW


def test_a_machine_without_a_table_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(TracerError, match="no table of system calls for riscv64") as refused:
        syscalls.abi_here()
    assert "--transport vhost-user" in refused.value.hint


@pytest.mark.parametrize(("release", "suits"), [("5.13.19", False), ("5.14.0-rc1", True), ("4.19.0-6-amd64", False)])
def test_a_kernel_without_notification_is_told(release: str, suits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((real[0], real[1], release, real[3], real[4])))
    if suits:
        syscalls.check_notification()
    else:
        with pytest.raises(
            TracerError, match=f"kernel {release} is too old for the transport seccomp, which needs 5.14"
        ):
            syscalls.check_notification()
