"""Who is behind a connection: mount point, server, and what was agreed before the capture began."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tracer.bridges.host import processes
from tracer.bridges.host.processes import Mount
from tracer.records import ChannelInfo, ChannelKind


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
    """Looks connections up. `list_devices` asks the kernel for every open /dev/fuse."""

    def __init__(self, list_devices: Callable[[], Iterable[OpenDevice]]) -> None:
        self._list_devices = list_devices

    def devices(self) -> list[OpenDevice]:
        """Return every open /dev/fuse that belongs to a connection."""
        return [device for device in self._list_devices() if device.connection]

    def look_up(self, connections: Iterable[int], seen_by: Iterable[int] = ()) -> dict[int, Identity]:
        """Return what is known of each connection; `seen_by` are processes whose view of the mounts may help."""
        wanted = set(connections)
        devices = [device for device in self.devices() if device.connection in wanted]
        mounts = _mounts(wanted, (*seen_by, *(device.tgid for device in devices)))
        return {
            number: Identity(
                number, mounts.get(number), tuple(device for device in devices if device.connection == number)
            )
            for number in wanted
        }


def _mounts(wanted: set[int], pids: Iterable[int]) -> dict[int, Mount]:
    """Return where connections are mounted: as we see it, or else as the first of `pids` does that sees them at all."""
    found: dict[int, Mount] = {}
    viewers: tuple[int | str, ...] = ("self", *dict.fromkeys(pids))
    for pid in viewers:
        for mount in processes.mounts(pid):
            if mount.connection in wanted and (mount.is_fuse or mount.is_virtiofs):
                found.setdefault(mount.connection, mount)
        if len(found) == len(wanted):
            break
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
