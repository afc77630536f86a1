"""Become a server that is to end with its parent, under a filter and over a sandbox: a program between us and it.

python -I -S confined.py CONTROL_FD SERVER ARGS...

A program of its own, because what must happen between fork and exec may not be done in a process with threads. It
imports nothing of the project, so that it starts in milliseconds and wherever it is called.

On the control socket (SEQPACKET) it reads one message: ORDER, the places of an overlay, the BPF program. It sends the
listener's descriptor when there is one, or the step that failed and its errno; closed, it has become the server.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys

ORDER = struct.Struct("=iIII")  # parent's pid, 1 to listen, seccomp(2)'s number here, bytes of the places
FAILURE = struct.Struct("=i")  # what a refusal begins with: an errno; the step in words follows
EXEC = "exec"  # the step that is the user's own fault
MOST_BYTES = 1 << 16

# <linux/prctl.h>, <linux/seccomp.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
# <linux/sched.h>, <linux/mount.h>
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000

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


def _private_mounts() -> bool:
    """Leave the mounts of everybody else; return whether that took a user namespace, as for an ordinary user."""
    if _libc.unshare(_CLONE_NEWNS) == 0:
        return False
    uid, gid = os.geteuid(), os.getegid()
    _checked(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare(CLONE_NEWUSER | CLONE_NEWNS)")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return True


def _lay_over(source: bytes, upper: bytes, work: bytes) -> None:
    """Mount an overlay over `source`, for this process and its children only."""
    is_user = _private_mounts()
    _checked(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "mount(MS_PRIVATE)")
    # By descriptor: in a path, commas, colons and backslashes would mean something.
    places = [os.open(place, os.O_PATH | os.O_DIRECTORY) for place in (source, upper, work)]
    lower, upper, work = (b"/proc/self/fd/%d" % place for place in places)
    options = b"lowerdir=%s,upperdir=%s,workdir=%s," % (lower, upper, work)
    options += (
        b"userxattr" if is_user else b"redirect_dir=on"
    )  # without it, a directory of the source cannot be renamed
    _checked(_libc.mount(b"overlay", lower, b"overlay", ctypes.c_ulong(0), options), "mount(overlay)")
    for place in places:
        os.close(place)
    os.chdir(os.getcwd())  # noqa: PTH109 - for speed; it may lie below what is now beneath


def _filter(code: bytes, number: int, listen: bool) -> int:
    """Install the filter for all that comes; return the listener, 0 when there is none."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    flags = _SECCOMP_FILTER_FLAG_NEW_LISTENER if listen else 0
    filled = _Program(len(code) // 8, code)
    mode, flag = ctypes.c_ulong(_SECCOMP_SET_MODE_FILTER), ctypes.c_ulong(flags)
    return _checked(_libc.syscall(ctypes.c_long(number), mode, flag, ctypes.byref(filled)), "seccomp")


def _become(control: socket.socket, argv: list[str]) -> None:
    parent, listen, number, places_size = ORDER.unpack_from(order := control.recv(MOST_BYTES))
    places, code = order[ORDER.size :][:places_size], order[ORDER.size + places_size :]
    if places:
        _lay_over(*places.split(b"\0"))
    _end_with(parent)  # a change of credentials would undo it
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
        raise _Refused(error.errno or 0, EXEC) from error


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
