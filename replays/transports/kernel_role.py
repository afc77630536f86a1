"""What a server's mount is answered with in the kernel's place: a socket for the device, success for the mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from replays.transports.device import Device
from replays.transports.notifier import Call, Notifier, string_at, words_at
from replays.transports.syscalls import Abi

DEVICE: Final = "/dev/fuse"
_FILE_SYSTEMS: Final = ("fuse", "fuseblk")  # and fuse.NAME
_CONTEXT_NAME: Final = "fusewire-mount"  # of what fsopen(2) gives: a memfd, known again by its name
_CLOEXEC_FLAG: Final = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC


class KernelRole:
    """Answers the calls of one server and of the helpers it starts (fusermount3).

    Everything that is not about FUSE is left to the kernel. `place` is an empty directory of ours; `happened` gets the
    name of each step: "open" of the device, "mount".
    """

    def __init__(self, notifier: Notifier, abi: Abi, device: Device, place: Path, happened: SimpleQueue[str]) -> None:
        self._notifier = notifier
        self._device = device
        self._happened = happened
        self._context = os.memfd_create(_CONTEXT_NAME)
        self._root = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # move_mount's source cannot be O_PATH
        self._place = str(place.resolve())
        answers: dict[str, Callable[[Call], None]] = {
            "open": self._open,
            "openat": self._openat,
            "openat2": self._openat2,
            "mount": self._mount,
            "umount2": notifier.succeed,  # whatever it mounted is not there
            "fsopen": self._fsopen,
            "fsconfig": self._fsconfig,
            "fsmount": self._fsmount,
            "move_mount": self._move_mount,
        }
        self._answers = {abi.calls[name]: answer for name, answer in answers.items() if name in abi.calls}

    def answer(self, call: Call) -> None:
        """Answer one call."""
        self._answers.get(call.number, self._notifier.proceed)(call)

    def close(self) -> None:
        """Let go of what was given in place of a mount."""
        os.close(self._context)
        os.close(self._root)

    # ---- the device ----

    def _open(self, call: Call) -> None:
        self._open_path(call, call.arguments[0], call.arguments[1])

    def _openat(self, call: Call) -> None:
        self._open_path(call, call.arguments[1], call.arguments[2])

    def _openat2(self, call: Call) -> None:
        how = words_at(call.pid, call.arguments[2], 1)  # struct open_how begins with the flags
        self._open_path(call, call.arguments[1], how[0] if how else 0)

    def _open_path(self, call: Call, address: int, flags: int) -> None:
        path = string_at(call.pid, address)
        if path is None or os.path.normpath(os.fsdecode(path)) != DEVICE:
            self._notifier.proceed(call)
            return
        with self._device.lent(call.pid) as device:
            if device is None:
                self._notifier.fail(call, errno.ENODEV)
                return
            self._notifier.give(call, device, cloexec=bool(flags & os.O_CLOEXEC))
        self._happened.put("open")

    # ---- mount(2) ----

    def _mount(self, call: Call) -> None:
        if self._is_fuse(call, call.arguments[2]):
            self._succeed_mount(call)
        else:
            self._notifier.proceed(call)

    def _is_fuse(self, call: Call, address: int) -> bool:
        name = os.fsdecode(string_at(call.pid, address) or b"")
        return name.partition(".")[0] in _FILE_SYSTEMS

    def _succeed_mount(self, call: Call) -> None:
        self._device.let_go()  # the server has it, or the helper that mounts for it
        self._notifier.succeed(call)
        self._happened.put("mount")

    # ---- fsopen(2) and what follows ----

    def _fsopen(self, call: Call) -> None:
        if self._is_fuse(call, call.arguments[0]):
            self._notifier.give(call, self._context, cloexec=bool(call.arguments[1] & _CLOEXEC_FLAG))
        else:
            self._notifier.proceed(call)

    def _fsconfig(self, call: Call) -> None:
        if self._is_context(call):
            self._notifier.succeed(call)
        else:
            self._notifier.proceed(call)

    def _fsmount(self, call: Call) -> None:
        if self._is_context(call):
            self._notifier.give(call, self._root, cloexec=bool(call.arguments[1] & _CLOEXEC_FLAG))
        else:
            self._notifier.proceed(call)

    def _move_mount(self, call: Call) -> None:
        if _target(call) == self._place:
            self._succeed_mount(call)
        else:
            self._notifier.proceed(call)

    def _is_context(self, call: Call) -> bool:
        return _target(call).startswith(f"/memfd:{_CONTEXT_NAME}")


def _target(call: Call) -> str:
    """Return what the descriptor in the first argument is open on."""
    try:
        return str(Path(f"/proc/{call.pid}/fd/{call.arguments[0] & 0xFFFFFFFF}").readlink())
    except OSError:
        return ""
