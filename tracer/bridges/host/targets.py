"""From a mount point to the process that serves it, without touching the mount."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

from tracer.bridges.host import processes
from tracer.bridges.host.processes import Mount
from tracer.bridges.host.words import printable
from tracer.errors import CaptureError

_MAX_LINKS = 40  # as the kernel: MAXSYMLINKS


def servers_of_mount(path: str) -> list[int]:
    """Return the processes that serve the FUSE mount at or above `path`. Raises CaptureError when there is none."""
    mount = find_mount(path)
    pids = processes.servers_of(mount.connection)
    if pids:
        return pids
    return _servers_by_command(mount)


def find_mount(path: str, *, virtiofs: bool = False) -> Mount:
    """Return the FUSE mount at or above `path`, with `virtiofs` also one of that kind. Raises CaptureError for none."""
    mounts = processes.mounts()
    resolved = _resolve(path, {mount.mount_point for mount in mounts if mount.is_fuse or mount.is_virtiofs})
    above = [mount for mount in mounts if _is_under(resolved, mount.mount_point)]
    # The longest path is the innermost mount; of two on the same path, the later one hides the earlier.
    mount = max(enumerate(above), key=lambda entry: (len(entry[1].mount_point), entry[0]))[1] if above else None
    shown = printable(os.fsencode(path), 200)
    if mount is not None and mount.is_virtiofs:
        if virtiofs:
            return mount
        raise CaptureError(
            f"{shown} is a virtiofs mount: its server runs outside this machine",
            "tap the virtqueue on the host: fusewire record --vhost-user LISTEN --daemon DAEMON",
        )
    if mount is None or not mount.is_fuse:
        fuse = [printable(os.fsencode(m.mount_point)) for m in mounts if m.is_fuse]
        known = f"FUSE mounts here: {', '.join(fuse[:8])}" if fuse else "there is no FUSE mount here"
        raise CaptureError(f"{shown} is not on a FUSE mount", known)
    return mount


def _resolve(path: str, fuse_mount_points: set[str]) -> str:
    """Return `path` absolute and without symbolic links, as far as that can be told without asking a FUSE server."""
    todo = list(reversed(PurePosixPath(os.path.abspath(path)).parts[1:]))  # noqa: PTH100 - resolve() would stat the mount
    done = "/"
    links = 0
    while todo:
        if done in fuse_mount_points:
            return os.path.join(done, *reversed(todo))  # noqa: PTH118
        candidate = os.path.join(done, todo.pop())  # noqa: PTH118
        target = "" if candidate in fuse_mount_points else _link(candidate)
        if target and links < _MAX_LINKS:
            links += 1
            joined = os.path.normpath(os.path.join(done, target))  # noqa: PTH118
            todo += reversed(PurePosixPath(joined).parts[1:])
            done = "/"
        else:
            done = candidate
    return done


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""


def _is_under(path: str, mount_point: str) -> bool:
    return path == mount_point or path.startswith(mount_point.rstrip("/") + "/")


def _servers_by_command(mount: Mount) -> list[int]:
    """Older kernels do not tell the connection of a descriptor: the mount point on the command line has to do."""
    shown = printable(os.fsencode(mount.mount_point), 200)
    holders = processes.holders()
    if not holders:
        hint = "" if os.geteuid() == 0 else "it may belong to another user: run as root"
        raise CaptureError(f"no process here serves {shown}", hint or "it may run in another container, or on the host")
    named = [pid for pid in holders if mount.mount_point in processes.command_line(pid).split(" ")]
    found = named or holders
    if len(found) > 1:
        listed = ", ".join(f"{pid} ({processes.name(pid)})" for pid in found[:8])
        raise CaptureError(f"cannot tell which process serves {shown}", f"give one with --pid: {listed}")
    return found
