"""Programs for seccomp(2): what becomes of a server's system calls while it talks to us instead of the kernel.

Classic BPF over struct seccomp_data. A program is a list of rules, one for each system call; calls without a rule are
let through. Nothing here is a sandbox: a server is not kept from anything but making a mount.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import Final

from replays.transports.syscalls import Abi

FUSE_DEV_IOC_CLONE: Final = 0x8004E500  # <linux/fuse.h>: _IOR(229, 0, uint32_t)
_F_SETPIPE_SZ: Final = 1031  # <linux/fcntl.h>
_O_TMPFILE_BIT: Final = 0o20000000  # __O_TMPFILE: such an open names a directory, never a device
_X32_BIT: Final = 0x40000000  # numbers of the x32 ABI, which share x86_64's audit_arch

# <linux/seccomp.h>
_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000
_USER_NOTIF: Final = 0x7FC00000
_ALLOW: Final = 0x7FFF0000

# <linux/bpf_common.h>: load a word, AND, compare, return
_LOAD: Final = 0x20
_AND: Final = 0x54
_IF_EQUAL: Final = 0x15
_IF_AT_LEAST: Final = 0x35
_RETURN: Final = 0x06

# struct seccomp_data; of an argument the low word, which comes first on both machines
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

_Code = list[tuple[int, int, int, int]]  # code, jump if true, jump if false, constant


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one system call; with `argument`, only when that argument & `mask` is `value`."""

    call: str
    action: int
    argument: int | None = None
    mask: int = 0xFFFFFFFF
    value: int = 0

    def code(self) -> _Code:
        """Return its instructions, which end in a return on every way."""
        done = [(_RETURN, 0, 0, self.action)]
        if self.argument is None:
            return done
        return [
            (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * self.argument),
            (_AND, 0, 0, self.mask),
            (_IF_EQUAL, 0, 1, self.value),
            *done,
            (_RETURN, 0, 0, _ALLOW),
        ]


def _refused(call: str, error: int) -> Rule:
    return Rule(call, _ERRNO | error)


def _opened(call: str, flags_argument: int) -> Rule:
    """A device is opened for reading and writing, and not created: few other files are."""
    mask = os.O_ACCMODE | os.O_CREAT | _O_TMPFILE_BIT
    return Rule(call, _USER_NOTIF, flags_argument, mask, os.O_RDWR)


# A spliced reply would reach a socket in pieces of at most 16 pages, and those of several threads mixed. A server that
# may not splice writes: libfuse falls back when vmsplice fails, go-fuse when splice does. Reading by splice needs a
# pipe that holds a whole request; libfuse reads when it cannot have one, as it does for most ordinary users.
WHOLE_REPLIES: Final = (
    _refused("vmsplice", errno.EINVAL),
    _refused("splice", errno.EINVAL),
    Rule("fcntl", _ERRNO | errno.EPERM, 1, value=_F_SETPIPE_SZ),
)
# For a server that was given its descriptor: should it mount all the same, it must not succeed.
NO_MOUNTS: Final = tuple(_refused(call, errno.EPERM) for call in ("mount", "umount2", "fsopen", "move_mount"))
# For a server that opens the device and mounts by itself: we answer in the kernel's place.
OUR_MOUNTS: Final = (
    _opened("open", 1),
    _opened("openat", 2),
    *(
        Rule(call, _USER_NOTIF)
        for call in ("openat2", "mount", "umount2", "fsopen", "fsconfig", "fsmount", "move_mount")
    ),
    Rule("ioctl", _ERRNO | 0, 1, value=FUSE_DEV_IOC_CLONE),  # succeeds: a second descriptor is the same socket already
)


def program(abi: Abi, rules: tuple[Rule, ...]) -> bytes:
    """Return an array of struct sock_filter for calls of `abi`; a call of another machine ends the server (SIGSYS)."""
    code: _Code = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_IF_EQUAL, 1, 0, abi.audit_arch),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for rule in rules:
        if rule.call in abi.calls:
            body = rule.code()
            code += [(_IF_EQUAL, 0, len(body), abi.calls[rule.call]), *body]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
