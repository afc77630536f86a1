"""QEMU's command line for a guest with shared memory. It emulates the processor (TCG): no KVM is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracer.lab.archive import Unavailable
from tracer.lab.children import needed

QEMU = "qemu-system-x86_64"
QUEUE_SIZE = 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """How large the guest is."""

    cpus: int = 1
    memory_mib: int = 512


def program() -> str:
    """Return QEMU; raises Unavailable when no guest can run here."""
    if os.uname().machine != "x86_64":
        raise Unavailable("guests are x86-64, and so must this machine be")
    return needed(QEMU, "qemu-system-x86")


def command(machine: Machine, image: Path, initrd: Path, more: Sequence[str]) -> list[str]:
    """Return the words that boot `image`; the kernel's console is the first serial port, which `more` must give."""
    memory = f"{machine.memory_mib}M"
    argv = [program(), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    argv += ["-accel", "tcg", "-machine", "q35,memory-backend=memory", "-cpu", "max", "-smp", str(machine.cpus)]
    # shared: virtiofsd reads and writes the guest's memory
    argv += ["-m", memory, "-object", f"memory-backend-memfd,id=memory,size={memory},share=on"]
    argv += ["-kernel", str(image), "-initrd", str(initrd)]
    return [*argv, "-append", "console=ttyS0 panic=-1 quiet", *more]


def virtiofs(number: int, tag: str, listen: Path, *more: str) -> list[str]:
    """Return the words of a virtiofs device; `more` are properties of it, such as event_idx=off."""
    device = ",".join((f"vhost-user-fs-pci,chardev=virtiofs{number},tag={tag},queue-size={QUEUE_SIZE}", *more))
    return ["-chardev", f"socket,id=virtiofs{number},path={listen}", "-device", device]


def serial(name: str, listen: Path, *more: str) -> list[str]:
    """Return the words of a serial port at a socket where somebody listens; `more` are properties of it."""
    return ["-chardev", ",".join((f"socket,id={name},path={listen}", *more)), "-serial", f"chardev:{name}"]
