"""The guest's first file system: busybox, modules and the script that leaves for this machine's root."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from tracer.lab.cpio import cpio

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
