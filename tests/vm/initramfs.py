"""The guest's first file system: busybox, modules and the script that leaves for this machine's root."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

INIT = Path(__file__).parent / "inside" / "init.sh"
# what of these is not built into a kernel is inserted, after what it needs
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "fuse", "virtiofs", "loop")


def image(busybox: Path, modules: Mapping[str, bytes]) -> bytes:
    """Return the archive for QEMU's -initrd; `modules` are inserted in the order given."""
    directories = ("bin", "dev", "proc", "sys", "modules", "host", "upper", "root")
    entries = dict.fromkeys(directories, (stat.S_IFDIR | 0o755, b""))
    entries["bin/busybox"] = (stat.S_IFREG | 0o755, busybox.read_bytes())
    entries["init"] = (stat.S_IFREG | 0o755, INIT.read_bytes())
    for number, (name, data) in enumerate(modules.items()):
        entries[f"modules/{number:02}-{name}.ko"] = (stat.S_IFREG | 0o644, data)
    return cpio(entries)


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
