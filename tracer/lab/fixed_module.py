"""virtiofs.ko with one bug mended: a second mount of a device shows the root, never a submount.

sget_fc() asks virtio_fs_test_super() (fs/fuse/virtio_fs.c) which superblock is the device's, and it takes any that
shares its connection. A submount's does, and is found first because it is younger. Here only the first superblock of a
connection is taken, which is the root's: submounts are added to fuse_conn.mounts behind it.

Nothing is installed: sources, headers and kbuild are Debian packages in the cache. They have to be of the same build as
the kernel that boots, or its module loader refuses the module for the checksums of what it imports from fuse.ko.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tracer.lab import archive
from tracer.lab.archive import Unavailable
from tracer.lab.children import needed
from tracer.lab.kernels import SERIES, Kernel

SAME_CONNECTION = "\treturn fsc_fm->fc->iq.priv == sb_fm->fc->iq.priv;\n"
ROOT_ONLY = "\tif (sb_fm->fc->mounts.next != &sb_fm->fc_entry)\n\t\treturn 0;\n"
SOURCES = ("virtio_fs.c", "fuse_i.h")
MAKEFILE = "obj-m := virtiofs.o\nvirtiofs-y := virtio_fs.o\n"
BUILD_TIMEOUT_S = 300.0


def fixed_virtiofs(kernel: Kernel) -> Path:
    """Return the mended virtiofs.ko for a kernel, built once; raises Unavailable."""
    if kernel.has_built_in("virtiofs"):
        raise Unavailable(
            f"virtiofs is built into Linux {kernel.release}, and cannot be replaced by a mended one",
            "Debian's 6.1 has it as a module: --kernel 6.1",
        )
    with archive.locked("built"):
        module = archive.cache() / "built" / kernel.release / "virtiofs.ko"
        if not module.exists():
            module.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=module.parent) as directory:
                _build(kernel, Path(directory)).rename(module)
        return module


def _build(kernel: Kernel, directory: Path) -> Path:
    make, compiler = needed("make", "make"), needed("gcc", "gcc")
    headers, source = _headers(kernel), _source(kernel)
    offered, booted = archive.version(source), archive.version(headers)
    if offered != booted:
        raise Unavailable(f"Debian offers the source of Linux {offered}, and {booted} is booted")
    shutil.copy(source / "fuse_i.h", directory)
    (directory / "virtio_fs.c").write_text(mended((source / "virtio_fs.c").read_text()))
    (directory / "Makefile").write_text(MAKEFILE)
    own, common = (headers / "usr/src" / name for name in _header_packages(kernel.release))
    # The Makefile of the headers names another below /usr/src, where nothing is: that one is given instead.
    words = [make, "-C", str(own), "-f", str(common / "Makefile"), f"M={directory}", f"CC={compiler}", "modules"]
    try:
        built = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"virtiofs.ko was not built within {BUILD_TIMEOUT_S:.0f} s") from None
    if built.returncode:
        said = (built.stderr.strip() or built.stdout.strip()).splitlines()
        raise Unavailable(f"virtiofs.ko for Linux {kernel.release} cannot be built: {said[:1]}")
    return directory / "virtiofs.ko"


def mended(source: str) -> str:
    """Return virtio_fs.c with the condition in it; raises Unavailable when it reads otherwise than expected."""
    before, found, after = source.partition(SAME_CONNECTION)
    if not found or SAME_CONNECTION in after or ROOT_ONLY in before:
        raise Unavailable("virtio_fs_test_super() of this kernel is not the one that this knows how to mend")
    return before + ROOT_ONLY + found + after


def _header_packages(release: str) -> tuple[str, str]:
    """Return the packages with a build's own headers and with those all flavours share; directories have the names."""
    return f"linux-headers-{release}", f"linux-headers-{release.rpartition('-')[0]}-common"


def _headers(kernel: Kernel) -> Path:
    suite, _ = SERIES[kernel.series]
    own, common = _header_packages(kernel.release)
    return archive.unpacked(suite, own, ("./usr/*",), beside=(common, f"linux-kbuild-{kernel.series}"))


def _source(kernel: Kernel) -> Path:
    suite, _ = SERIES[kernel.series]
    return archive.unpacked(suite, f"linux-source-{kernel.series}", ("*/linux-source-*.tar.xz",), prepare=_keep_sources)


def _keep_sources(files: Path) -> None:
    """Take what is needed out of the source, which is 140 MB compressed."""
    packed = next(files.rglob("linux-source-*.tar.xz"))
    members = [f"*/fs/fuse/{name}" for name in SOURCES]
    words = ["tar", "-x", "-J", "-f", str(packed), "-C", str(files), "--strip-components=3", "--wildcards", *members]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise Unavailable(
            f"{packed.name} cannot be unpacked: {done.stderr.strip().splitlines()[-1:]}", "apt install xz-utils"
        )
    packed.unlink()
