"""Servers that a replay talks to, beside those of tests/servers/real.py: more libraries, languages, ways to mount."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from examples.demo import mounts, possible
from tests.servers import compiled, rust
from tests.servers.base import Server
from tests.servers.real import WithSource


@dataclass
class Passthrough(WithSource):
    """libfuse's own high-level example, on paths; it shows the root directory, libfuse's module subdir less of it."""

    name = "passthrough"

    @classmethod
    def lacks(cls) -> str | None:
        return compiled.why_no_example(cls.name)

    def command(self, mount_point: Path) -> list[str]:
        return [
            str(compiled.example(self.name)),
            "-f",
            "-o",
            f"modules=subdir,subdir={self.seeded()}",
            str(mount_point),
        ]


@dataclass
class PassthroughFh(Passthrough):
    """The same with file handles: libfuse 3 reads and writes by descriptor."""

    name = "passthrough_fh"


@dataclass
class HelloLl(Server):
    """libfuse's smallest low-level example: one file, nothing to write, a mount of few operations."""

    name = "hello_ll"
    writable = False

    @classmethod
    def lacks(cls) -> str | None:
        return compiled.why_no_example(cls.name)

    def command(self, mount_point: Path) -> list[str]:
        return [str(compiled.example(self.name)), "-f", str(mount_point)]


@dataclass
class UnionfsFuse(WithSource):
    """libfuse 2, high level, several branches."""

    name = "unionfs-fuse"

    @classmethod
    def lacks(cls) -> str | None:
        return possible.why_no_program("unionfs-fuse", "unionfs-fuse")

    def command(self, mount_point: Path) -> list[str]:
        return ["unionfs-fuse", "-f", f"{self.seeded()}=RW", str(mount_point)]


@dataclass
class Gocryptfs(Server):
    """Go upon hanwen/go-fuse; what it stores is encrypted, so its files are made through it."""

    name = "gocryptfs"

    @classmethod
    def lacks(cls) -> str | None:
        return possible.why_no_program("gocryptfs", "gocryptfs")

    def command(self, mount_point: Path) -> list[str]:
        cipher, password = self.directory / "cipher", self.directory / "password"
        if not cipher.exists():
            cipher.mkdir(parents=True)
            password.write_text("of no use to anybody\n")
            words = ["gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", password, cipher]
            made = mounts.run_child(words, 60)
            assert made.status == 0, made.output
        return ["gocryptfs", "-fg", "-q", "-passfile", str(password), str(cipher), str(mount_point)]


@dataclass
class Rclone(WithSource):
    """Go upon bazil.org/fuse, which mounts through fusermount only."""

    name = "rclone"

    @classmethod
    def lacks(cls) -> str | None:
        return possible.why_no_program("rclone", "rclone")

    def command(self, mount_point: Path) -> list[str]:
        places = [f"--config={self.directory / 'rclone.conf'}", f"--cache-dir={self.directory / 'cache'}"]
        remote = f":local:{self.seeded()}"
        return ["rclone", "mount", *places, "--vfs-cache-mode=writes", remote, str(mount_point)]


@dataclass
class FuserSimple(Server):
    """Rust upon fuser without libfuse; its store is its own, so its files are made through it.

    It asks for allow_other, which fusermount3 grants an ordinary user only where /etc/fuse.conf says so.
    """

    name = "fuser-simple"

    @classmethod
    def lacks(cls) -> str | None:
        return rust.why_not()

    def command(self, mount_point: Path) -> list[str]:
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        return [str(rust.example("simple")), "--data-dir", str(data), "--mount-point", str(mount_point)]


@dataclass
class FuserHello(Server):
    """Rust upon fuser: one file, nothing to write; for an ordinary user it mounts through fusermount3."""

    name = "fuser-hello"
    writable = False

    @classmethod
    def lacks(cls) -> str | None:
        return rust.why_not()

    def command(self, mount_point: Path) -> list[str]:
        return [str(rust.example("hello")), str(mount_point)]
