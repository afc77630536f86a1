"""Archives that a kernel unpacks as its first file system."""

from __future__ import annotations

from collections.abc import Mapping


def cpio(entries: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Return path -> (mode, content) as "newc" (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    out = bytearray()
    for number, (name, (mode, data)) in enumerate((*entries.items(), ("TRAILER!!!", (0, b"")))):
        path = name.encode() + b"\0"
        # magic; inode, mode, uid, gid, links, mtime, size, device and rdevice in two halves each, name's size, checksum
        fields = (number + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)
