"""The kernels that guests boot: Debian's own builds, with BTF, FUSE, virtiofs and 9p."""

from __future__ import annotations

import functools
import lzma
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tracer.lab import archive
from tracer.lab.archive import Unavailable

# The package that always depends on the newest build of a series, and the suite that has it. Not the cloud
# flavour: it is built without 9p, over which the guest sees this machine's files.
SERIES = {
    "5.10": ("bullseye", "linux-image-amd64"),
    "6.1": ("bookworm", "linux-image-amd64"),
    "6.12": ("bookworm", "linux-image-6.12-amd64"),
    "newest": ("sid", "linux-image-amd64"),
}
MEMBERS = (
    "*/vmlinuz*",
    "*/config-*",
    "*/modules.builtin",
    "*/kernel/fs/*",
    "*/kernel/net/9p/*",
    "*/kernel/drivers/virtio/*",
    "*/kernel/drivers/block/*",
    "*/kernel/drivers/char/*",
    "*/kernel/lib/*",
)
DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: `release` is what uname says in the guest."""

    series: str
    release: str
    image: Path
    modules: Path  # the directory that would be /lib/modules/RELEASE

    def has_built_in(self, name: str) -> bool:
        """Tell whether a module's code is part of the kernel itself."""
        return _plain(name) in self._built_in()

    def _built_in(self) -> set[str]:
        return {_plain(Path(line).name) for line in (self.modules / "modules.builtin").read_text().splitlines()}

    def load_order(self, names: Iterable[str], instead: Mapping[str, Path]) -> dict[str, bytes]:
        """Return modules to insert, each after those it needs, uncompressed; what is built in is left out.

        `instead` gives a module another file. KeyError when this kernel has no such module.
        """
        files = {_plain(path.name): path for path in self.modules.rglob("*.ko*")}
        files.update({_plain(name): path for name, path in instead.items()})
        built_in = self._built_in()
        order: dict[str, bytes] = {}

        def add(name: str) -> None:
            if name in order or (name in built_in and name not in files):
                return
            data = _uncompressed(files[name])
            needed = DEPENDS.search(data)
            for other in needed[1].decode().split(",") if needed and needed[1] else ():
                add(_plain(other))
            order[name] = data

        for name in names:
            add(_plain(name))
        return order


def _plain(name: str) -> str:
    """Return a module's name as the kernel writes it: no suffix, no hyphens."""
    return name.partition(".ko")[0].replace("-", "_")


def _uncompressed(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


@functools.cache
def kernel(series: str) -> Kernel:
    """Return the newest kernel of a series that can be had here, downloading it once; raises Unavailable."""
    suite, package = SERIES[series]
    files = archive.unpacked(suite, package, MEMBERS)
    image, built_in = next(files.rglob("vmlinuz*"), None), next(files.rglob("modules.builtin"), None)
    if image is None or built_in is None:
        raise Unavailable(f"{files.name} holds no kernel with modules")
    return Kernel(series, built_in.parent.name, image, built_in.parent)


@functools.cache
def busybox() -> Path:
    """Return a busybox that needs no library; raises Unavailable."""
    files = archive.unpacked("bookworm", "busybox-static", ("*/bin/busybox",))
    return next(files.rglob("bin/busybox"))
