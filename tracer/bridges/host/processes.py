"""What /proc tells about servers, connections, mounts and callers.

Nothing here may touch a FUSE mount, not even with stat(2): its server may be the one that is stopped, or hung.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final, NamedTuple

from tracer.bridges import framing
from tracer.bridges.host.words import printable

PROC: Final = Path("/proc")
_CONNECTION: Final = re.compile(r"^fuse_connection:\s*(\d+)$", re.MULTILINE)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_STATUS: Final = re.compile(r"^(\w+):\s*(.*)$", re.MULTILINE)
DEVICES: Final = ("/dev/fuse", "/dev/cuse")


class Mount(NamedTuple):
    """One line of mountinfo."""

    mount_point: str
    fstype: str
    source: str
    st_dev: str
    read_only: bool

    @property
    def connection(self) -> int:
        """Number under /sys/fs/fuse/connections: the device number as the kernel packs it (fs/fuse/control.c)."""
        major, _, minor = self.st_dev.partition(":")
        return int(major) << 20 | int(minor)

    @property
    def is_fuse(self) -> bool:
        """Whether a server behind /dev/fuse serves it."""
        return self.fstype.partition(".")[0] in ("fuse", "fuseblk")

    @property
    def is_virtiofs(self) -> bool:
        """Whether a server behind a virtqueue serves it."""
        return self.fstype == "virtiofs"


def mounts(pid: int | str = "self") -> list[Mount]:
    """Return the mounts that process `pid` sees, the newest last; none when it cannot be asked."""
    try:
        text = (PROC / str(pid) / "mountinfo").read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return []
    return [mount for line in text.splitlines() if (mount := _mount(line)) is not None]


def _mount(line: str) -> Mount | None:
    words = line.split(" ")
    if "-" not in words[6:]:
        return None
    dash = words.index("-", 6)
    if len(words) < dash + 4:
        return None
    options = words[dash + 3].split(",")
    return Mount(_plain(words[4]), words[dash + 1], _plain(words[dash + 2]), words[2], "ro" in options)


def _plain(path: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), path)


def connection_of(pid: int, fd: int) -> int:
    """Return the connection behind a descriptor, 0 when the kernel does not tell (fdinfo has it since 6.14)."""
    try:
        found = _CONNECTION.search((PROC / str(pid) / "fdinfo" / str(fd)).read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def device_fds(pid: int) -> list[int]:
    """Return the descriptors of `pid` that are /dev/fuse or /dev/cuse."""
    try:
        names = [entry.name for entry in (PROC / str(pid) / "fd").iterdir()]
    except OSError:
        return []
    return sorted(int(name) for name in names if _link(pid, name).endswith(DEVICES))


def hides_fds(pid: int) -> bool:
    """Tell whether we may not see which files `pid` has open (proc(5): that takes the right to trace it)."""
    try:
        return not any(True for _ in (PROC / str(pid) / "fd").iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _link(pid: int, name: str) -> str:
    try:
        return str((PROC / str(pid) / "fd" / name).readlink())
    except OSError:
        return ""


def status(pid: int) -> dict[str, str]:
    """Return /proc/PID/status; empty when there is no such process."""
    try:
        return dict(_STATUS.findall((PROC / str(pid) / "status").read_text(errors="replace")))
    except OSError:
        return {}


def thread_group(tid: int) -> int:
    """Return the process that a thread belongs to, 0 when it is gone."""
    return int(status(tid).get("Tgid", "0"))


def parent(pid: int) -> int:
    """Return the parent of a process, 0 when it is gone or has none here."""
    return int(status(pid).get("PPid", "0"))


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    return not status(pid).get("State", "X").startswith(("Z", "X"))


def name(pid: int) -> str:
    """Return the short name of a process, safe to show."""
    return printable(_comm(pid)) or "?"


def find_by_argument(argument: bytes) -> int:
    """Return the strace that has `argument` on its command line, 0 when there is none."""
    for pid in pids():
        try:
            words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argument in words and words[0].endswith(b"strace"):
            return pid
    return 0


def tracer_of(pid: int) -> int:
    """Return who traces `pid`, 0 for nobody."""
    return int(status(pid).get("TracerPid", "0"))


def command_line(pid: int) -> str:
    """Return the command line of a process, words parted by spaces; empty when it is gone."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode("utf-8", "backslashreplace")


def pids() -> list[int]:
    """Return the processes of this machine."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def is_connected(pid: int) -> bool:
    """Tell whether a device of `pid` belongs to a mount; older kernels only tell that it is open."""
    fds = device_fds(pid)
    return bool(fds) and (not _tells_connections(pid, fds) or any(connection_of(pid, fd) for fd in fds))


def _tells_connections(pid: int, fds: list[int]) -> bool:
    try:
        return any("fuse_connection" in (PROC / str(pid) / "fdinfo" / str(fd)).read_text() for fd in fds)
    except OSError:
        return False


def servers_of(connection: int) -> list[int]:
    """Return the processes that hold a descriptor of `connection`."""
    return sorted(pid for pid in pids() if any(connection_of(pid, fd) == connection for fd in device_fds(pid)))


def holders() -> list[int]:
    """Return the processes that have the device open at all."""
    return sorted(pid for pid in pids() if device_fds(pid))


def shares_pid_namespace(pid: int) -> bool:
    """Tell whether `pid` numbers processes as we do; only then the pids in its requests mean something to us."""
    try:
        return (PROC / str(pid) / "ns/pid").readlink() == (PROC / "self/ns/pid").readlink()
    except OSError:
        return False


class CallerNames:
    """Names of calling processes, looked up while they wait for their answer and kept for a short while.

    Short, because the number of a process that ended is given away again, and because a shell forks before it
    becomes the program that calls.
    """

    KEEP_NS: Final = 50_000_000
    KEEP_OF_GONE_NS: Final = 2_000_000_000
    LIMIT: Final = 4096

    def __init__(self) -> None:
        self._names: dict[bytes, tuple[int, bytes]] = {}  # pid as in the header -> when asked, name

    def of_request(self, data: bytes) -> bytes:
        """Return the name of the process whose request starts with `data`; empty when it cannot be told."""
        pid = data[framing.CALLER_PID]
        now_ns = time.monotonic_ns()
        known = self._names.get(pid)
        if known is not None and now_ns - known[0] < self.KEEP_NS:
            return known[1]
        number = int.from_bytes(pid, "little") if len(pid) == 4 else 0
        name = _comm(number) if number else b""
        if not name and known is not None and now_ns - known[0] < self.KEEP_OF_GONE_NS:
            return known[1]
        if len(self._names) >= self.LIMIT:
            self._names.clear()
        self._names[pid] = (now_ns, name)
        return name


def _comm(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            return file.read(64).rstrip(b"\n")[:16]
    except OSError:
        return b""
