"""A FUSE server in plain Python, mounted as `fuse` or `fuseblk`: something real to look at.

It speaks the bytes of /dev/fuse itself, without libfuse, keeps a small tree in memory and can be told to
misbehave in the ways that matter for sync(2).

    python3 examples/demo/server.py /mnt
    python3 examples/demo/server.py --type fuseblk --device /dev/loop0 --syncfs 0.2 /mnt

Runs in the foreground, needs root. SIGTERM and SIGINT unmount and end it; so does an unmount from outside.

What Linux 6.18 sends, as tests/servers/test_memfs.py sees it happen:
- mounted as fuseblk: one FUSE_SYNCFS (nodeid 1, the caller's pid, eight zero bytes) for syncfs(2), for sync(2) and
  for a remount to read-only; none while the superblock is read-only; none at unmount, which sends DESTROY alone;
  none ever again once the answer was ENOSYS, though the caller is told that all is well; after EIO it asks again;
- with --writeback-cache, the WRITEs of dirty pages are answered before SYNCFS is sent;
- mounted as fuse: neither SYNCFS nor DESTROY, whatever is done. Kernels before 6.18 treat fuseblk like that too.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import struct
import sys

from memfs import wire
from memfs.journal import Journal
from memfs.session import Options, Session
from memfs.wire import Notify

BLOCK_BYTES = 4096


def parser() -> argparse.ArgumentParser:
    """Return the command line's description."""
    p = argparse.ArgumentParser(description="A FUSE file system in memory, without libfuse.")
    p.add_argument("mount_point")
    p.add_argument("--type", choices=("fuse", "fuseblk"), default="fuse")
    p.add_argument("--device", help="block device to mount (fuseblk); nothing is written to it")
    p.add_argument("--two", metavar="MOUNT_POINT", help="serve a second mount, of type fuse, from the same process")
    p.add_argument("--syncfs", type=syncfs_wish, default="ok", metavar="ok|enosys|eio|never|SECONDS")
    p.add_argument("--write-delay", type=float, default=0.0, metavar="SECONDS", help="answer each WRITE this late")
    p.add_argument("--max-write", type=int, default=131072, metavar="BYTES")
    p.add_argument("--writeback-cache", action="store_true", help="let the kernel keep dirty pages")
    p.add_argument("--no-readdirplus", action="store_true")
    p.add_argument("--cache", type=float, default=1.0, metavar="SECONDS", help="validity of names and attributes")
    p.add_argument("--announce-submount", action="store_true", help="add mnt1/, marked FUSE_ATTR_SUBMOUNT")
    p.add_argument("--minor", type=int, default=45, help="highest protocol minor to agree to, from 12")
    p.add_argument("--threads", type=int, default=1, help="threads that read /dev/fuse")
    p.add_argument("--clone-fd", action="store_true", help="give each thread its own clone of the device")
    p.add_argument("--notify", action="append", choices=tuple(NOTIFICATIONS), help="what SIGUSR1 sends")
    p.add_argument("--journal", metavar="FILE", help="write every message down, in hex, one JSON object a line")
    return p


def syncfs_wish(text: str) -> str:
    """Check the word for --syncfs; ValueError (argparse reports it) when it is neither a word nor seconds."""
    if text not in ("ok", "enosys", "eio", "never") and not 0 <= float(text) < 3600:
        raise ValueError(text)
    return text


def first_file(session: Session) -> tuple[bytes, int]:
    """Return the name and nodeid of the first name in the root, which every sample tree has."""
    return next(iter(session.operations.tree.node(wire.ROOT_NODEID).children.items()))


def inval_entry(session: Session) -> bytes:
    """Return the payload that makes the kernel forget the first name."""
    name, _ = first_file(session)
    return struct.pack("=QII", wire.ROOT_NODEID, len(name), 0) + name + b"\0"


def delete(session: Session) -> bytes:
    """Return the payload that says the first name is gone."""
    name, nodeid = first_file(session)
    return struct.pack("=QQII", wire.ROOT_NODEID, nodeid, len(name), 0) + name + b"\0"


NOTIFICATIONS = {
    "inval-entry": (Notify.INVAL_ENTRY, inval_entry),
    "inval-inode": (Notify.INVAL_INODE, lambda s: struct.pack("=Qqq", first_file(s)[1], 0, 0)),
    "delete": (Notify.DELETE, delete),
    "store": (Notify.STORE, lambda s: struct.pack("=QQII", first_file(s)[1], 0, 5, 0) + b"HELLO"),
    "retrieve": (Notify.RETRIEVE, lambda s: struct.pack("=QQQII", 77, first_file(s)[1], 0, 5, 0)),
    "resend": (Notify.RESEND, lambda s: b""),
    "inc-epoch": (Notify.INC_EPOCH, lambda s: b""),
}


def options_of(args: argparse.Namespace) -> Options:
    """Return what the sessions need to know of the command line."""
    return Options(
        syncfs=args.syncfs,
        write_delay_s=args.write_delay,
        max_write=args.max_write,
        writeback_cache=args.writeback_cache,
        readdirplus=not args.no_readdirplus,
        cache_s=args.cache,
        submount=args.announce_submount,
        minor=args.minor,
        threads=args.threads,
        clone_fd=args.clone_fd,
    )


def sessions_of(args: argparse.Namespace, events: queue.SimpleQueue[str]) -> list[Session]:
    """Mount what was asked for; OSError when the kernel refuses, with nothing left mounted."""
    journal = Journal(args.journal)
    places = [(args.mount_point, args.type, args.device or "memfs")]
    if args.two:
        places.append((args.two, "fuse", "memfs"))
    sessions: list[Session] = []
    try:
        for number, (mount_point, fstype, source) in enumerate(places):
            session = Session(number, options_of(args), journal, lambda: events.put("ended"))
            session.mount(os.path.realpath(mount_point), fstype, source, BLOCK_BYTES)
            sessions.append(session)
    except OSError:
        for session in sessions:
            session.unmount()
        raise
    return sessions


def serve(args: argparse.Namespace) -> None:
    """Serve until a signal or the last unmount."""
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number, event in ((signal.SIGTERM, "stop"), (signal.SIGINT, "stop"), (signal.SIGUSR1, "notify")):
        signal.signal(number, lambda *_, event=event: events.put(event))
    sessions = sessions_of(args, events)
    living = len(sessions)
    while living:
        event = events.get()
        if event == "ended":
            living -= 1
        elif event == "stop":
            break
        else:
            for kind in args.notify or ["inval-entry"]:
                code, payload = NOTIFICATIONS[kind]
                for session in sessions:
                    session.notify(code, payload(session))
    for session in sessions:
        if not session.ended:
            session.unmount()


def main() -> int:
    """Run the server; exit status 2 when it cannot mount."""
    args = parser().parse_args()
    if args.type == "fuseblk" and not args.device:
        parser().error("--type fuseblk needs --device, for example the one `losetup -f --show FILE` prints")
    try:
        serve(args)
    except OSError as refusal:
        sys.stderr.write(f"memfs: {refusal}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
