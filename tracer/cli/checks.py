"""What this machine lets us overhear: each check is one fact, and the command that mends it when it is bad."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tracer.analysis.kernels import SYNCFS_SINCE, kernel_version
from tracer.bridges.ebpf.programs import probe
from tracer.bridges.host.processor import is_strongly_ordered
from tracer.lab import qemu
from tracer.lab.archive import Unavailable
from tracer.records import ChannelKind

CAP_SYS_PTRACE = 19


class Verdict(Enum):
    """How a check came out."""

    GOOD = "ok"
    LIMITED = "limited"  # something works less well
    MISSING = "missing"  # something cannot work


@dataclass(frozen=True, slots=True)
class Check:
    """One fact about this machine; `mend` is a command or a sentence."""

    name: str
    verdict: Verdict
    fact: str
    mend: str = ""


def run_checks() -> list[Check]:
    """Return every check, in the order a person wants to read them."""
    return [
        *(_kernel(), _device(), _strace(), _ptrace(), _uring()),
        *_ebpf(),
        *(_virtqueue(), _lab(), _mounts(), _wireshark()),
    ]


def _kernel() -> Check:
    release = platform.release()
    version = kernel_version(release)
    if version >= SYNCFS_SINCE[ChannelKind.FUSEBLK]:
        return Check("kernel", Verdict.GOOD, f"{release}: sends SYNCFS for virtiofs and fuseblk, never for plain fuse")
    if version >= SYNCFS_SINCE[ChannelKind.VIRTIOFS]:
        return Check(
            "kernel", Verdict.GOOD, f"{release}: sends SYNCFS for virtiofs, not for fuseblk (6.18) or plain fuse"
        )
    return Check("kernel", Verdict.LIMITED, f"{release}: never sends SYNCFS (virtiofs since 5.14)", "a newer kernel")


def _device() -> Check:
    path = Path("/dev/fuse")
    if not path.exists():
        return Check(
            "/dev/fuse", Verdict.MISSING, "there is none", "modprobe fuse (in a container: --device /dev/fuse)"
        )
    if not os.access(path, os.R_OK | os.W_OK):
        return Check("/dev/fuse", Verdict.LIMITED, "not yours to open: servers cannot be started by you", "run as root")
    return Check("/dev/fuse", Verdict.GOOD, "can be opened")


def _strace() -> Check:
    path = shutil.which("strace")
    if path is None:
        return Check("strace", Verdict.MISSING, "not installed: the strace bridge cannot work", "apt install strace")
    words = _output([path, "-V"])
    found = re.search(r"version (\d+)\.(\d+)", words)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < (5, 11):
        return Check("strace", Verdict.LIMITED, f"version {found[0] if found else '?'} is old", "strace 5.11 or newer")
    return Check("strace", Verdict.GOOD, f"version {version[0]}.{version[1]}")


def _ptrace() -> Check:
    scope = _read("/proc/sys/kernel/yama/ptrace_scope") or "0"
    if has_capability(CAP_SYS_PTRACE):
        return Check("ptrace", Verdict.GOOD, "processes of other users can be attached to, too")
    if scope == "0":
        return Check("ptrace", Verdict.LIMITED, "only processes of your own user can be attached to", "run as root")
    return Check(
        "ptrace",
        Verdict.LIMITED,
        f"ptrace_scope is {scope}: only what fusewire starts itself can be traced",
        "run as root, or: sysctl kernel.yama.ptrace_scope=0",
    )


def has_capability(number: int) -> bool:
    """Tell whether this process has a capability in effect (capabilities(7))."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", _read("/proc/self/status"), re.M)
    return bool(found and int(found[1], 16) >> number & 1)


def _uring() -> Check:
    value = _read("/sys/module/fuse/parameters/enable_uring")
    if value in ("Y", "1"):
        return Check(
            "fuse over io_uring",
            Verdict.LIMITED,
            "enabled: what a server reads through io_uring is seen by eBPF, not by strace",
            "only for strace: echo N > /sys/module/fuse/parameters/enable_uring, then mount again",
        )
    return Check("fuse over io_uring", Verdict.GOOD, "off: every message passes read(2) and write(2)")


def _ebpf() -> list[Check]:
    """Load the programs for a moment: only the kernel knows whether it takes them, and what they see then."""
    return [
        Check(found.name, Verdict.GOOD if found.is_good else Verdict.LIMITED, found.fact, found.mend)
        for found in probe()
    ]


def _virtqueue() -> Check:
    name = "virtqueue"
    if not is_strongly_ordered():
        fact = f"no tap on {platform.machine()}: rings cannot be shared from Python there"
        return Check(name, Verdict.LIMITED, fact, "record within the guest: --bridge ebpf")
    return Check(name, Verdict.GOOD, "a tap can stand between a VMM and virtiofsd: record --vhost-user, as their user")


def _lab() -> Check:
    if os.geteuid() != 0:
        return Check("lab", Verdict.LIMITED, "fusewire lab needs root: it mounts, and virtiofsd's sandbox does", "sudo")
    try:
        qemu.program()
    except Unavailable as reason:
        return Check("lab", Verdict.LIMITED, reason.message, reason.hint or "")
    return Check("lab", Verdict.GOOD, "a guest can be booted; its kernel and busybox are fetched from Debian's mirror")


def _mounts() -> Check:
    found = fuse_mounts()
    if not found:
        return Check("mounts", Verdict.GOOD, "no FUSE file system is mounted now")
    shown = ", ".join(f"{where} ({kind})" for where, kind in found[:8])
    return Check("mounts", Verdict.GOOD, f"{len(found)} mounted: {shown}")


def fuse_mounts() -> list[tuple[str, str]]:
    """Return (mount point, type) of each FUSE mount, printable. Reads mountinfo only: a dead mount would hang us."""
    found = []
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(), after.split(" ", 1)[0]
        if len(words) > 4 and (kind in ("fuse", "fuseblk", "virtiofs") or kind.startswith(("fuse.", "fuseblk."))):
            found.append((words[4].encode("ascii", "backslashreplace").decode(), kind))
    return found


def _wireshark() -> Check:
    if shutil.which("tshark") or shutil.which("wireshark"):
        return Check("Wireshark", Verdict.GOOD, "installed; it opens our traces, though it does not decode FUSE yet")
    return Check("Wireshark", Verdict.GOOD, "not installed; nothing here needs it")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
