"""A virtual machine with another kernel and this machine's files, in which a test runs commands.

    with Guest(kernels.kernel("6.12"), directory) as guest:
        result = guest.run([sys.executable, "-c", "import os; print(os.uname().release)"])

QEMU emulates the processor (TCG), so that it works without KVM, and within another virtual machine.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.vm import initramfs
from tracer.lab import children, kernels, qemu

AGENT = Path(__file__).parent / "inside" / "agent.sh"
CHECKOUT = Path(__file__).parent.parent.parent
SHARE = "/run/guest"  # where the guest sees `Guest.share`
BOOT_TIMEOUT_S = 120.0
GRACE_S = 20.0  # how much later than the guest this side gives up on a command
LIFETIME_S = 900  # should this process be killed, QEMU ends by itself
CONSOLE_TAIL = 4000  # characters of the console that a failure shows


class GuestError(Exception):
    """The guest did not boot, died, or did not answer in time; says what its console said last."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command in the guest ended: `status` as a shell has it, 137 (SIGKILL) when its time was up."""

    status: int
    stdout: str
    stderr: str

    def checked(self) -> str:
        """Return what it printed; AssertionError with all it said when it failed."""
        assert self.status == 0, f"status {self.status}\n{self.stdout}\n{self.stderr}"
        return self.stdout


def why_not() -> str | None:
    """Return why no guest can run here, or None."""
    try:
        qemu.program()
    except kernels.Unavailable as reason:
        return str(reason)
    return None


@dataclass
class Guest:
    """A guest to be entered; with files in `directory`: console.log, share/ and qemu.log.

    `virtiofs` maps a tag to the socket of a running virtiofsd, `instead` a module's name to the file to insert for it.
    """

    kernel: kernels.Kernel
    directory: Path
    cpus: int = 2
    memory_mib: int = 1024
    virtiofs: Mapping[str, Path] = field(default_factory=dict)
    modules: Sequence[str] = initramfs.MODULES
    instead: Mapping[str, Path] = field(default_factory=dict)
    qemu_options: Sequence[str] = ()
    boot_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.share = self.directory / "share"
        self._jobs = 0
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Guest:
        with contextlib.ExitStack() as stack:
            self._boot(stack)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def console(self) -> str:
        """Return what the kernel and the guest's init said."""
        log = self.directory / "console.log"
        return log.read_text(errors="backslashreplace") if log.exists() else ""

    def run(
        self, argv: Sequence[str | Path], timeout_s: float = 60, cwd: Path = CHECKOUT, **environment: str
    ) -> Result:
        """Run a command to its end, as root, with the checkout as directory; GuestError when the guest fails."""
        self._jobs += 1
        job = self.share / "jobs" / str(self._jobs)
        job.mkdir(parents=True)
        variables = {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONFAULTHANDLER": "1",
            **environment,
        }
        words = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        words += ["timeout", "-s", "KILL", str(timeout_s), *map(str, argv)]
        (job / "run").write_text(f"cd {shlex.quote(str(cwd))} && exec {SHARE}/busybox {shlex.join(words)}\n")
        self._channel.sendall(b"%d\n" % self._jobs)
        answer = self._line(time.monotonic() + timeout_s + GRACE_S, f"{shlex.join(map(str, argv))}").split()
        assert answer[:-1] == [str(self._jobs)], answer
        outputs = ((job / name).read_bytes().decode(errors="backslashreplace") for name in ("stdout", "stderr"))
        return Result(int(answer[-1]), *outputs)

    def python(self, *words: str | Path, timeout_s: float = 60, **environment: str) -> Result:
        """Run this Python, with the packages of the virtual environment."""
        return self.run([sys.executable, *words], timeout_s, **environment)

    def _boot(self, stack: contextlib.ExitStack) -> None:
        started = time.monotonic()
        (self.share / "jobs").mkdir(parents=True)
        shutil.copy(kernels.busybox(), self.share / "busybox")
        shutil.copy(AGENT, self.share / "agent.sh")
        initrd = self.directory / "initramfs.cpio"
        modules = self.kernel.load_order(self.modules, self.instead)
        initrd.write_bytes(initramfs.image(kernels.busybox(), modules))
        # a directory of its own: a socket's path must be short, and pytest's are long
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fusewire-vm-")))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.fspath(sockets / "agent"))
            listener.listen(1)
            self._start_qemu(stack, self._command(initrd, sockets / "agent"))
            self._channel = self._accepted(listener, started + BOOT_TIMEOUT_S)
        stack.callback(self._channel.close)
        self._unread = b""
        assert self._line(started + BOOT_TIMEOUT_S, "the boot") == "ready"
        stack.callback(self._power_off)
        self.boot_s = time.monotonic() - started

    def _start_qemu(self, stack: contextlib.ExitStack, argv: list[str]) -> None:
        with open(self.directory / "qemu.log", "wb") as log:
            self._qemu = stack.enter_context(children.child(argv, log, lifetime_s=LIFETIME_S))

    def _accepted(self, listener: socket.socket, deadline: float) -> socket.socket:
        """Return QEMU's end of the second serial port, which it connects to before it starts the guest."""
        ended = os.pidfd_open(self._qemu.pid)
        try:
            ready, _, _ = select.select([listener, ended], [], [], max(0.0, deadline - time.monotonic()))
        finally:
            os.close(ended)
        if listener not in ready:
            raise GuestError(self._why("QEMU did not start"))
        return listener.accept()[0]

    def _power_off(self) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._channel.sendall(b"poweroff\n")
            self._qemu.wait(10)

    def _command(self, initrd: Path, agent: Path) -> list[str]:
        more = ["-serial", f"file:{self.directory / 'console.log'}", *qemu.serial("agent", agent)]
        more += _nine_p("root", Path("/"), ",readonly=on") + _nine_p("share", self.share)
        for number, (tag, listen) in enumerate(self.virtiofs.items()):
            more += qemu.virtiofs(number, tag, listen)
        machine = qemu.Machine(self.cpus, self.memory_mib)
        return qemu.command(machine, self.kernel.image, initrd, [*more, *self.qemu_options])

    def _line(self, deadline: float, what: str) -> str:
        while b"\n" not in self._unread:
            piece = self._received(deadline)
            if not piece:
                raise GuestError(
                    self._why(f"{what} did not end in time" if piece is None else f"the guest died in {what}")
                )
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="backslashreplace").strip()

    def _received(self, deadline: float) -> bytes | None:
        """Return what the guest sent next; nothing when it is gone, None when it is late."""
        ready, _, _ = select.select([self._channel], [], [], max(0.0, deadline - time.monotonic()))
        try:
            return self._channel.recv(4096) if ready else None
        except ConnectionError:
            return b""

    def _why(self, words: str) -> str:
        said = (self.directory / "qemu.log").read_text(errors="backslashreplace")
        return f"{words} (kernel {self.kernel.release}); its console: {self.console()[-CONSOLE_TAIL:]}\n{said}"


def _nine_p(tag: str, path: Path, more: str = "") -> list[str]:
    fsdev = f"local,id={tag},path={path},security_model=none,multidevs=remap{more}"
    return ["-fsdev", fsdev, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
