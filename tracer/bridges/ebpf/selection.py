"""Which connections of the host a capture is about."""

from __future__ import annotations

import os
from typing import Protocol

from tracer.bridges.ebpf.identity import Directory, Identity
from tracer.bridges.host import processes, targets
from tracer.bridges.host.words import printable
from tracer.errors import CaptureError

_MAX_ANCESTORS = 64  # a chain of parents that is longer is none: numbers were given away again while we looked


class Selection(Protocol):
    """Decides about connections. `fixed` are those known from the start, for the kernel to filter by; empty: all."""

    fixed: tuple[int, ...]

    def wants(self, identity: Identity) -> bool | None:
        """Tell whether a connection is meant; None when that cannot be told yet."""
        ...

    def has_ended(self) -> bool:
        """Tell whether nothing more can come."""
        ...


class Everything:
    """Every connection of the host, also those to come."""

    fixed: tuple[int, ...] = ()

    def wants(self, identity: Identity) -> bool | None:
        """Tell that it is meant."""
        return True

    def has_ended(self) -> bool:
        """Tell that more can always come."""
        return False


class OfMount:
    """The connection behind one mount."""

    def __init__(self, path: str) -> None:
        """Raises CaptureError when `path` is on no FUSE mount."""
        self.mount = targets.find_mount(path, virtiofs=True)
        self.fixed: tuple[int, ...] = (self.mount.connection,)

    def wants(self, identity: Identity) -> bool | None:
        """Tell whether it is this one, or another on the same place."""
        mount = identity.mount
        return identity.connection in self.fixed and (mount is None or mount.mount_point == self.mount.mount_point)

    def has_ended(self) -> bool:
        """Tell whether the mount is gone, and nobody holds its connection."""
        number = self.mount.connection
        if any(mount.connection == number for mount in processes.mounts()):
            return False
        return self.mount.is_virtiofs or not processes.servers_of(number)


class OfProcess:
    """The connections that one running server holds."""

    def __init__(self, pid: int, directory: Directory) -> None:
        """Raises CaptureError when there is no such process, or it serves nothing."""
        if not processes.status(pid):
            raise CaptureError(f"there is no process {pid}", "find the server with: ps -e | grep -i fuse")
        self.pid = processes.thread_group(pid)
        held = {device.connection for device in directory.devices() if device.tgid == self.pid}
        if not held:
            serving = sorted({device.tgid for device in directory.devices()})
            shown = ", ".join(f"{server} ({processes.name(server)})" for server in serving[:8])
            name = printable(processes.name(pid).encode())
            raise CaptureError(
                f"process {pid} ({name}) serves no FUSE mount",
                f"these do: {shown}" if shown else "no process here does",
            )
        self.fixed: tuple[int, ...] = tuple(sorted(held))

    def wants(self, identity: Identity) -> bool | None:
        """Tell whether the process holds it."""
        held = not identity.servers or any(device.tgid == self.pid for device in identity.servers)
        return identity.connection in self.fixed and held

    def has_ended(self) -> bool:
        """Tell whether the process is gone."""
        return not processes.is_alive(self.pid)


class OfServer:
    """The connections of a server that we start, and of whatever it starts."""

    fixed: tuple[int, ...] = ()  # none is known before it mounts

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._ours: set[int] = set()

    def wants(self, identity: Identity) -> bool | None:
        """Tell whether a connection is held by a process that descends from us."""
        if not identity.servers:
            return None
        is_ours = any(descends_from_us(device.tgid) for device in identity.servers)
        if is_ours:
            self._ours.add(identity.connection)
        return is_ours

    @property
    def has_served(self) -> bool:
        """Whether a connection of the server was met."""
        return bool(self._ours)

    def has_ended(self) -> bool:
        """Tell whether nobody holds a connection of the server any more."""
        return not any(device.connection in self._ours for device in self._directory.devices())


def descends_from_us(pid: int) -> bool:
    """Tell whether a process is our child, or one of theirs; daemons are, where we are their subreaper."""
    ourselves = os.getpid()
    for _ in range(_MAX_ANCESTORS):
        if pid in (0, 1):
            return False
        if pid == ourselves:
            return True
        pid = processes.parent(pid)
    return False
