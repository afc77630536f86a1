"""Numbers of the system calls that a filter looks at, for the machines it can be built for.

Source: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h, which arm64 uses.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Final

from tracer.errors import TracerError


@dataclass(frozen=True, slots=True)
class Abi:
    """One machine's system calls. `calls` lacks open(2) where there is openat(2) only."""

    name: str
    audit_arch: int  # <linux/audit.h>: what seccomp_data.arch says
    calls: dict[str, int]


_SINCE_5 = {"move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "openat2": 437}  # alike everywhere

X86_64: Final = Abi(
    "x86_64",
    0xC000003E,
    {
        "open": 2,
        "ioctl": 16,
        "fcntl": 72,
        "mount": 165,
        "umount2": 166,
        "openat": 257,
        "splice": 275,
        "vmsplice": 278,
        "seccomp": 317,
        **_SINCE_5,
    },
)
AARCH64: Final = Abi(
    "aarch64",
    0xC00000B7,
    {
        "fcntl": 25,
        "ioctl": 29,
        "umount2": 39,
        "mount": 40,
        "openat": 56,
        "vmsplice": 75,
        "splice": 76,
        "seccomp": 277,
        **_SINCE_5,
    },
)
ABIS: Final = {abi.name: abi for abi in (X86_64, AARCH64)}

# seccomp_unotify(2): SECCOMP_ADDFD_FLAG_SEND, which gives a descriptor and ends the call in one step
_LEAST_KERNEL: Final = (5, 14)


def abi_here() -> Abi:
    """Return the table of this machine; TracerError where there is none."""
    machine = platform.machine()
    if (abi := ABIS.get(machine)) is None:
        raise TracerError(
            f"no table of system calls for {machine}: a server's calls cannot be filtered here",
            f"replay on {' or '.join(ABIS)}, or reach the server with --transport vhost-user",
        )
    return abi


def check_notification() -> None:
    """Raise TracerError when this kernel cannot hand another process's call to us, with a descriptor as answer."""
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < _LEAST_KERNEL:
        wanted = ".".join(map(str, _LEAST_KERNEL))
        raise TracerError(
            f"kernel {release} is too old for the transport seccomp, which needs {wanted}",
            "a server with libfuse 3 can be reached with --transport fd",
        )
