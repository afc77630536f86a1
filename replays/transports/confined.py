"""Become a server that is to end with its parent, under a filter: run as a program, between us and the server.

python -I -S confined.py CONTROL_FD SERVER ARGS...

A program of its own, because what must happen between fork and exec may not be done in a process with threads. It
imports nothing of the project, so that it starts in milliseconds and wherever it is called.

On the control socket (SEQPACKET) it reads one message, ORDER and the BPF program. It sends the listener's descriptor
when there is one, or the step that failed and its errno; closed, it has become the server.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys

ORDER = struct.Struct("=iII")  # parent's pid, 1 to listen, seccomp(2)'s number here; the BPF program follows
FAILURE = struct.Struct("=i")  # what a refusal begins with: an errno; the step in words follows
MOST_BYTES = 1 << 16

# <linux/prctl.h>, <linux/seccomp.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 8

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class _Refused(Exception):
    def __init__(self, code: int, step: str) -> None:
        super().__init__(code, step)
        self.code, self.step = code, step


def _checked(result: int, step: str) -> int:
    if result < 0:
        raise _Refused(ctypes.get_errno(), step)
    return result


def _end_with(parent: int) -> None:
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the kernel knew that it matters
        sys.exit(1)


def _filter(code: bytes, number: int, listen: bool) -> int:
    """Install the filter for all that comes; return the listener, 0 when there is none."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    flags = _SECCOMP_FILTER_FLAG_NEW_LISTENER if listen else 0
    filled = _Program(len(code) // 8, code)
    mode, flag = ctypes.c_ulong(_SECCOMP_SET_MODE_FILTER), ctypes.c_ulong(flags)
    return _checked(_libc.syscall(ctypes.c_long(number), mode, flag, ctypes.byref(filled)), "seccomp")


def _become(control: socket.socket, argv: list[str]) -> None:
    parent, listen, number = ORDER.unpack_from(order := control.recv(MOST_BYTES))
    code = order[ORDER.size :]
    _end_with(parent)
    if code:
        listener = _filter(code, number, bool(listen))
        if listen:
            socket.send_fds(control, [b"listening"], [listener])
            os.close(listener)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores both, and exec would hand that on
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise _Refused(error.errno or 0, "exec") from error


def main() -> None:
    """Read the order, become the server; tell the parent what failed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    try:
        _become(control, sys.argv[2:])
    except _Refused as refusal:
        control.send(FAILURE.pack(refusal.code) + refusal.step.encode())
        sys.exit(1)


if __name__ == "__main__":
    main()
