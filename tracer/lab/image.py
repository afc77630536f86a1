"""The lab's guest: busybox, the modules that virtiofs needs, and a scenario. 3 MB, so it boots in a few seconds."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from tracer.lab.cpio import cpio
from tracer.lab.kernels import Kernel

INIT = Path(__file__).parent / "inside" / "init.sh"
MODULES = ("virtio_pci", "virtiofs")
DIRECTORIES = ("bin", "dev", "mnt", "modules", "proc", "scenario", "scenario/bin", "sys", "tmp")
DIRECTORY, FILE, PROGRAM = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFREG | 0o755


def image(
    kernel: Kernel, busybox: Path, script: str, tag: str, instead: Mapping[str, Path], programs: Mapping[str, bytes]
) -> bytes:
    """Return the archive for QEMU's -initrd. `instead` maps a module to the file to insert for it."""
    entries = dict.fromkeys(DIRECTORIES, (DIRECTORY, b""))
    entries["bin/busybox"] = (PROGRAM, busybox.read_bytes())
    entries["init"] = (PROGRAM, INIT.read_bytes())
    entries["scenario/script"] = (FILE, f"TAG={tag}\n{script}\n".encode())
    entries.update(_modules(kernel.load_order(MODULES, instead).items()))
    entries.update({f"scenario/bin/{name}": (PROGRAM, data) for name, data in programs.items()})
    return cpio(entries)


def _modules(modules: Iterable[tuple[str, bytes]]) -> dict[str, tuple[int, bytes]]:
    """Return the modules as files whose names sort as they are to be inserted."""
    return {f"modules/{number:02}-{name}.ko": (FILE, data) for number, (name, data) in enumerate(modules)}
