"""Who is behind a connection: mount point, server, and what was agreed before the capture began."""

from __future__ import annotations

import os
import select
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tracer.bridges.host import processes
from tracer.bridges.host.processes import Mount
from tracer.records import ChannelInfo, ChannelKind

_MOST_KNOWN = 4096


class OpenDevice(NamedTuple):
    """One /dev/fuse that a process has open, as the kernel's file table tells it."""

    tgid: int
    fd: int
    connection: int
    minor: int  # agreed in INIT; 0: not yet
    max_write: int
    max_pages: int
    is_aborted: bool = False


class Identity(NamedTuple):
    """All that the host knows of a connection now."""

    connection: int
    mount: Mount | None
    servers: tuple[OpenDevice, ...]

    @property
    def server_pid(self) -> int:
        """The process that answers; 0 when it is not known, or no process (virtiofs)."""
        return self.servers[0].tgid if self.servers else 0


class Directory:
    """Looks connections up, and remembers them: one that comes and goes quickly is gone when its messages are read.

    `list_devices` asks the kernel for every open /dev/fuse. Close it, or use it as a context manager.
    """

    def __init__(self, list_devices: Callable[[], Iterable[OpenDevice]]) -> None:
        self._list_devices = list_devices
        self._known: OrderedDict[int, Identity] = OrderedDict()
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._changes = select.poll()
        self._changes.register(self._table, select.POLLPRI)

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._table)

    def wait(self, timeout_s: float) -> None:
        """Wait, and look round at once when something is mounted or unmounted (proc(5): mountinfo can be polled)."""
        if self._changes.poll(timeout_s * 1e3):
            os.pread(self._table, 1, 0)
            self.look_round()

    def devices(self) -> list[OpenDevice]:
        """Return every open /dev/fuse that belongs to a connection."""
        return [device for device in self._list_devices() if device.connection]

    def look_round(self, seen_by: Iterable[int] = ()) -> dict[int, Identity]:
        """Return every connection there is now; `seen_by` are processes whose view of the mounts may help."""
        servers: dict[int, list[OpenDevice]] = {}
        for device in self.devices():
            servers.setdefault(device.connection, []).append(device)
        mounts = _mounts(servers, seen_by)
        found = {
            number: Identity(number, mounts.get(number), tuple(servers.get(number, ()))) for number in servers | mounts
        }
        for number, identity in found.items():
            self._remember(number, identity)
        return found

    def look_up(self, connection: int, seen_by: Iterable[int] = ()) -> Identity:
        """Return what is known of a connection, and was while it lasted."""
        self.look_round(seen_by)
        return self._known.get(connection, Identity(connection, None, ()))

    def _remember(self, number: int, identity: Identity) -> None:
        before = self._known.pop(number, identity)
        # An unmounted connection that its server still holds is the same; one with another server is not.
        if identity.mount is None and set(identity.servers) <= set(before.servers):
            identity = identity._replace(mount=before.mount)
        self._known[number] = identity if identity.servers else identity._replace(servers=before.servers)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)


def _mounts(servers: dict[int, list[OpenDevice]], seen_by: Iterable[int]) -> dict[int, Mount]:
    """Return where connections are mounted: as we see it, or else as their servers, or the processes `seen_by`, do."""
    found: dict[int, Mount] = {}
    for mount in processes.mounts():
        if mount.is_fuse or mount.is_virtiofs:
            found.setdefault(mount.connection, mount)
    for pid in dict.fromkeys((*seen_by, *(own[0].tgid for number, own in servers.items() if number not in found))):
        for mount in processes.mounts(pid):
            if mount.connection in servers:
                found.setdefault(mount.connection, mount)
    return found


def describe(identity: Identity, *, saw_init: bool, snap_bytes: int, limits: Iterable[str] = ()) -> ChannelInfo:
    """Return what the trace is told of a connection; `limits` are what this capture cannot see, a sentence each."""
    mount, pid = identity.mount, identity.server_pid
    where = f"connection {identity.connection}"
    return ChannelInfo(
        name=mount.mount_point if mount else f"{where} of pid {pid}" if pid else where,
        kind=_kind(identity),
        connection=identity.connection,
        mount_point=mount.mount_point if mount else "",
        fstype=mount.fstype if mount else "",
        read_only=bool(mount and mount.read_only),
        st_dev=mount.st_dev if mount else "",
        server_pid=pid,
        server_command=processes.command_line(pid) if pid else "",
        kernel=os.uname().release,
        clock="monotonic",
        minor=0 if saw_init else max((device.minor for device in identity.servers), default=0),
        snap_bytes=snap_bytes,
        notes=(*_notes(identity, saw_init=saw_init, snap_bytes=snap_bytes), *limits),
    )


def _kind(identity: Identity) -> ChannelKind:
    if identity.mount is None:
        return ChannelKind.DEV_FUSE if identity.servers else ChannelKind.UNKNOWN
    if identity.mount.is_virtiofs:
        return ChannelKind.VIRTIOFS
    return ChannelKind.FUSEBLK if identity.mount.fstype.startswith("fuseblk") else ChannelKind.DEV_FUSE


def _notes(identity: Identity, *, saw_init: bool, snap_bytes: int) -> Iterator[str]:
    if not saw_init:
        agreed = next((device for device in identity.servers if device.minor), None)
        told = (
            f"; the kernel tells 7.{agreed.minor}, max_write {agreed.max_write}, max_pages {agreed.max_pages}"
            if agreed
            else ""
        )
        yield f"INIT was not seen: the mount was there before the capture began{told}"
    if snap_bytes:
        yield f"of each message the first {snap_bytes} bytes were kept"
