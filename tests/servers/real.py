"""The FUSE servers of other people that the end-to-end tests run."""

from __future__ import annotations

import ctypes.util
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from examples.demo import mounts, possible
from tests.servers import compiled
from tests.servers.base import Server, seed

SFTP_SERVERS = (Path("/usr/lib/openssh/sftp-server"), Path("/usr/libexec/openssh/sftp-server"))
MFUSEPY_PASSTHROUGH = Path(__file__).with_name("mfusepy_passthrough.py")


@dataclass
class WithSource(Server):
    """A server that shows a directory of this machine."""

    @property
    def source(self) -> Path:
        return self.directory / "source"

    def seeded(self) -> Path:
        """Return the directory it shows, filled if it is not there yet."""
        if not self.source.exists():
            seed(self.source)
        return self.source


@dataclass
class Bindfs(WithSource):
    """libfuse 2, read and writev."""

    name = "bindfs"

    @classmethod
    def lacks(cls) -> str | None:
        return possible.why_no_program("bindfs", "bindfs")

    def command(self, mount_point: Path) -> list[str]:
        return ["bindfs", "-f", str(self.seeded()), str(mount_point)]


@dataclass
class Squashfuse(WithSource):
    """libfuse 3 on an image that cannot be written."""

    name = "squashfuse"
    writable = False

    @classmethod
    def lacks(cls) -> str | None:
        return possible.why_no_program("squashfuse", "squashfuse") or possible.why_no_program(
            "mksquashfs", "squashfs-tools"
        )

    def command(self, mount_point: Path) -> list[str]:
        image = self.directory / "image.squashfs"
        if not image.exists():
            made = mounts.run_child(["mksquashfs", self.seeded(), image, "-quiet", "-no-progress"], 60)
            assert made.status == 0, made.output
        return ["squashfuse", "-f", str(image), str(mount_point)]


@dataclass
class PassthroughLl(WithSource):
    """libfuse's own low-level example: libfuse 3, threads, a lookup count it really keeps."""

    name = "passthrough_ll"
    options: tuple[str, ...] = ("xattr",)

    @classmethod
    def lacks(cls) -> str | None:
        return compiled.why_not()

    def command(self, mount_point: Path) -> list[str]:
        options = ",".join((f"source={self.seeded()}", *self.options))
        return [str(compiled.passthrough_ll()), "-f", "-o", options, str(mount_point)]


@dataclass
class Sshfs(WithSource):
    """libfuse 3, every request a round trip to an sftp-server that runs here, without sshd or network."""

    name = "sshfs"

    @staticmethod
    def _sftp_server() -> Path | None:
        return next((path for path in SFTP_SERVERS if path.exists()), None)

    @classmethod
    def lacks(cls) -> str | None:
        if (reason := possible.why_no_program("sshfs", "sshfs")) is not None:
            return reason
        return None if cls._sftp_server() else "there is no sftp-server (Debian package openssh-sftp-server)"

    def command(self, mount_point: Path) -> list[str]:
        script = self.directory / "ssh-without-ssh"
        source = self.seeded()
        script.write_text(f"#!/bin/sh\nexec {self._sftp_server()}\n")
        script.chmod(0o755)
        return ["sshfs", "-f", "-o", f"ssh_command={script}", f"nobody@nowhere:{source}", str(mount_point)]


@dataclass
class FuseOverlayfs(WithSource):
    """libfuse 3, replies to READ by splice."""

    name = "fuse-overlayfs"

    @classmethod
    def lacks(cls) -> str | None:
        return possible.why_no_program("fuse-overlayfs", "fuse-overlayfs")

    def command(self, mount_point: Path) -> list[str]:
        upper, work = self.directory / "upper", self.directory / "work"
        for directory in (upper, work):
            directory.mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir={self.seeded()},upperdir={upper},workdir={work}"
        return ["fuse-overlayfs", "-f", "-o", layers, str(mount_point)]


@dataclass
class Mfusepy(WithSource):
    """Python upon libfuse, by the package mfusepy."""

    name = "mfusepy"

    @classmethod
    def lacks(cls) -> str | None:
        if importlib.util.find_spec("mfusepy") is None:
            return "mfusepy is not installed (Python package mfusepy)"
        if not (ctypes.util.find_library("fuse3") or ctypes.util.find_library("fuse")):
            return "libfuse is not installed (Debian package libfuse3-3)"
        return None

    def command(self, mount_point: Path) -> list[str]:
        return [sys.executable, str(MFUSEPY_PASSTHROUGH), str(self.seeded()), str(mount_point)]
