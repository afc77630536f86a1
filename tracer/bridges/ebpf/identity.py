"""Who is behind a connection: mount point, server, and what was agreed before the capture began."""

from __future__ import annotations

import os
import select
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tracer.bridges.host import processes
from tracer.bridges.host.processes import Mount
from tracer.records import ChannelInfo, ChannelKind

_MOST_KNOWN = 4096
_MOST_SEEN = 4  # connections of one number


class OpenDevice(NamedTuple):
    """One /dev/fuse that a process has open, as the kernel's file table tells it."""

    tgid: int
    fd: int
    connection: int
    minor: int  # agreed in INIT; 0: not yet
    max_write: int
    max_pages: int
    is_on_mount: bool = False  # no server's device, but a file of ours on the mount: it tells what was agreed
    uses_uring: bool = False  # agreed on taking requests through io_uring


class Identity(NamedTuple):
    """All that the host knows of a connection now."""

    connection: int
    mount: Mount | None
    servers: tuple[OpenDevice, ...]
    others: tuple[
        OpenDevice, ...
    ] = ()  # who else has it open: tells what was agreed where no process serves (virtiofs)

    @property
    def server_pid(self) -> int:
        """The process that answers; 0 when it is not known, or no process (virtiofs)."""
        return self.servers[0].tgid if self.servers else 0

    @property
    def agreed(self) -> OpenDevice | None:
        """Who tells what INIT agreed on; None when nobody does."""
        return next((device for device in (*self.servers, *self.others) if device.minor), None)

    @property
    def holders(self) -> tuple[tuple[int, int], ...]:
        """Who holds it: process and descriptor."""
        return tuple((device.tgid, device.fd) for device in self.servers)


class Directory:
    """Looks connections up, and remembers them: one that comes and goes quickly is gone when its messages are read.

    `list_devices` asks the kernel for every open /dev/fuse. Close it, or use it as a context manager.
    """

    def __init__(self, list_devices: Callable[[], Iterable[OpenDevice]]) -> None:
        self._list_devices = list_devices
        self._known: OrderedDict[int, list[_Seen]] = OrderedDict()  # by number, the newest last
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._changes = select.poll()
        self._changes.register(self._table, select.POLLPRI)

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._table)

    def wait(self, timeout_s: float) -> set[int] | None:
        """Wait, and look round at once when something is mounted or unmounted (proc(5): mountinfo can be polled).

        Returns the connections there are then, None when nothing has changed.
        """
        if not self._changes.poll(timeout_s * 1e3):
            return None
        os.pread(self._table, 1, 0)
        return set(self.look_round())

    def devices(self) -> list[OpenDevice]:
        """Return every open /dev/fuse that belongs to a connection."""
        return [device for device in self._list_devices() if device.connection and not device.is_on_mount]

    def look_round(self) -> dict[int, Identity]:
        """Return every connection there is now."""
        servers: dict[int, list[OpenDevice]] = {}
        others: dict[int, list[OpenDevice]] = {}
        for device in self._list_devices():
            if device.connection:
                (others if device.is_on_mount else servers).setdefault(device.connection, []).append(device)
        mounts = _mounts(servers)
        found = {
            number: Identity(number, mounts.get(number), tuple(servers.get(number, ())), tuple(others.get(number, ())))
            for number in servers | mounts
        }
        for number, identity in found.items():
            self._remember(number, identity)
        return found

    def look_up(self, connection: int, since_ns: int = 0, until_ns: int = 0) -> Identity:
        """Return what is known of a connection, and was while it lasted.

        `since_ns` (CLOCK_MONOTONIC) is when it began, what had its number before is another one; `until_ns` is when
        the next one got it, 0 if none is known to.
        """
        now = self.look_round().get(connection, Identity(connection, None, ()))
        known = self._known.get(connection, [])
        if not since_ns:
            return known[-1].identity if known else now
        seen = [one.identity for one in known if since_ns <= one.since_ns and (not until_ns or one.since_ns < until_ns)]
        if not seen:
            return Identity(connection, None, ()) if until_ns else now
        # One that comes later may have the number by now: the first to be seen is what was meant.
        return next((identity for identity in seen if identity.mount is not None), seen[0])

    def _remember(self, number: int, identity: Identity) -> None:
        seen, now_ns = self._known.pop(number, []), time.monotonic_ns()
        before = seen[-1] if seen else _Seen(now_ns, identity)
        if before.is_followed_by(identity):
            seen = [*seen[-_MOST_SEEN + 1 :], _Seen(now_ns, identity)]
        else:
            seen = [*seen[:-1], before.updated(identity, now_ns)]
        self._known[number] = seen
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)


class _Seen(NamedTuple):
    """A connection as it was seen; `since_ns` is when its mount was seen first, or it where it has none."""

    since_ns: int
    identity: Identity

    def is_followed_by(self, identity: Identity) -> bool:
        """Tell whether what now has the number must be another connection."""
        before = self.identity
        if identity.servers and before.servers:
            return not set(identity.holders) & set(before.holders)
        return None not in (identity.mount, before.mount) and identity.mount != before.mount

    def updated(self, identity: Identity, now_ns: int) -> _Seen:
        """Return it with what is seen now. An unmounted connection that its server still holds is the same."""
        before = self.identity
        is_mounted_now = before.mount is None and identity.mount is not None
        servers = identity.servers or before.servers
        mount = identity.mount or before.mount
        others = identity.others or before.others
        known = identity._replace(servers=servers, mount=mount, others=others)
        return _Seen(now_ns if is_mounted_now else self.since_ns, known)


def _mounts(servers: dict[int, list[OpenDevice]]) -> dict[int, Mount]:
    """Return where connections are mounted: as we see it, or else as their servers do."""
    found: dict[int, Mount] = {}
    for mount in processes.mounts():
        if mount.is_fuse or mount.is_virtiofs:
            found.setdefault(mount.connection, mount)
    for pid in dict.fromkeys(own[0].tgid for number, own in servers.items() if number not in found):
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
        minor=identity.agreed.minor if identity.agreed and not saw_init else 0,
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
        agreed = identity.agreed
        told = (
            f"; the kernel tells 7.{agreed.minor}, max_write {agreed.max_write}, max_pages {agreed.max_pages}"
            if agreed
            else ""
        )
        yield f"INIT was not seen: the mount was there before the capture began{told}"
    if snap_bytes:
        yield f"of each message the first {snap_bytes} bytes were kept"
