"""Why the programs cannot be loaded: one line for each cause, and what to do about it.

The kernel has few words for "no": most causes come as EPERM or ESRCH. What libbpf said, the capabilities this process
holds and what /sys shows tell them apart.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from tracer.errors import CaptureError

KERNEL_TYPES: Final = Path("/sys/kernel/btf/vmlinux")
LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
CAP_SYS_ADMIN: Final = 21
CAP_PERFMON: Final = 38
CAP_BPF: Final = 39

_GRANT = (
    "run as root, or with these two alone: sudo setpriv --reuid $USER --init-groups "
    "--inh-caps +bpf,+perfmon --ambient-caps +bpf,+perfmon fusewire ..."
)
_ALL_USERS = 0xFFFFFFFF  # length of the identity map of the first user namespace


class Cause(Enum):
    """Why nothing was loaded: what a person reads, and the next step."""

    NO_LIBBPF = ("libbpf is not installed", "apt-get install libbpf1")
    NO_OBJECT = (
        "the eBPF programs were not built, because there was no clang when fusewire was installed",
        "apt-get install clang libbpf-dev, then: make venv",
    )
    NO_CAP_BPF = ("loading eBPF programs takes CAP_BPF and CAP_PERFMON, and this process has no CAP_BPF", _GRANT)
    NO_CAP_PERFMON = ("reading the kernel's memory takes CAP_PERFMON beside CAP_BPF", _GRANT)
    MODULE_TYPES = (
        "fuse is a module of this kernel, and finding the types of modules takes CAP_SYS_ADMIN too",
        "run as root, or add cap_sys_admin",
    )
    CONTAINER = (
        "the root of a container may not load eBPF programs: the kernel asks for capabilities on the host",
        "run fusewire on the host; it sees the mounts of containers too",
    )
    DENIED = (
        "the kernel refuses bpf(2), although this process has the capabilities: seccomp, or a security module",
        "run fusewire outside of the container, or allow bpf(2) in its seccomp profile",
    )
    NO_FENTRY = (
        "this kernel refuses programs at its functions (fentry), and has no tracepoints for FUSE",
        "Linux 6.12 or newer has tracepoints; until then: --bridge strace",
    )
    NO_BTF = (
        "this kernel does not describe its types (BTF)",
        "a kernel with CONFIG_DEBUG_INFO_BTF; until then: --bridge strace",
    )
    NO_MODULE = ("the kernel's fuse module is not loaded, so nothing can be attached to", "modprobe fuse")
    NO_HOOKS = (
        "this kernel has neither tracepoints for FUSE (Linux 6.12) nor the functions to attach to",
        "a kernel of 6.1 or newer; until then: --bridge strace",
    )
    LOCKED_DOWN = (
        "lockdown=confidentiality keeps eBPF from reading the kernel's memory",
        "boot with lockdown=integrity; until then: --bridge strace",
    )
    NO_MEMORY = ("the kernel has no memory for a ring of this size", "a smaller ring")
    PROCESSOR = (
        "loads of this processor may overtake each other and Python has no barriers, so the ring cannot be read",
        "until then: --bridge strace",
    )
    REFUSED = (
        "the kernel refused the eBPF programs",
        "please report it with the lines above; until then: --bridge strace",
    )

    def __init__(self, message: str, hint: str) -> None:
        self.message = message
        self.hint = hint


class LoadFailure(CaptureError):
    """The programs cannot be loaded or attached; `cause` says why, `lines` are libbpf's last words."""

    def __init__(self, cause: Cause, detail: str = "", lines: Sequence[str] = ()) -> None:
        super().__init__(f"{cause.message}: {detail}" if detail else cause.message, cause.hint)
        self.cause = cause
        self.lines = tuple(lines)


class Facts(NamedTuple):
    """What about this process and kernel decides why a load failed."""

    capabilities: int
    is_in_user_namespace: bool
    has_btf: bool
    has_fuse: bool
    has_fuse_types: bool  # older kernels do not describe the types of modules
    lockdown: str  # "none", "integrity", "confidentiality"

    @classmethod
    def gather(cls) -> Facts:
        """Return how things are now."""
        return cls(
            _capabilities(), _in_user_namespace(), KERNEL_TYPES.exists(), _has_fuse(), _has_fuse_types(), _lockdown()
        )

    def may(self, capability: int) -> bool:
        """Tell whether this process has a capability, or the one that stands for all of them."""
        return bool(self.capabilities >> capability & 1 or self.capabilities >> CAP_SYS_ADMIN & 1)


def explain(number: int, lines: Sequence[str], facts: Facts) -> LoadFailure:
    """Return the failure for an errno that loading ended with (positive) and the last lines of libbpf."""
    said = "\n".join(lines)
    cause = _cause(number, said, facts)
    detail = _last_words(lines, number) if cause is Cause.REFUSED else ""
    return LoadFailure(cause, detail, lines)


def _cause(number: int, said: str, facts: Facts) -> Cause:
    if not facts.has_btf or "failed to find valid kernel BTF" in said:
        return Cause.NO_BTF
    if facts.lockdown == "confidentiality":
        return Cause.LOCKED_DOWN
    if number in (errno.EPERM, errno.EACCES) and "R0" not in said:
        return _why_not_permitted(said, facts)
    if "failed to resolve CO-RE relocation" in said and not facts.has_fuse_types:
        return Cause.NO_HOOKS
    if number in (errno.ESRCH, errno.ENOENT):
        return Cause.NO_HOOKS if facts.has_fuse else Cause.NO_MODULE
    if number == errno.ENOMEM:
        return Cause.NO_MEMORY
    return Cause.REFUSED


def _why_not_permitted(said: str, facts: Facts) -> Cause:
    if facts.is_in_user_namespace:
        return Cause.CONTAINER
    if not facts.may(CAP_BPF):
        return Cause.NO_CAP_BPF
    if not facts.may(CAP_PERFMON):
        return Cause.NO_CAP_PERFMON
    if "failed to iterate BTF objects" in said:
        return Cause.MODULE_TYPES
    if re.search(r"prog 'on_\w+': .*(?:BPF program load failed|failed to load)", said) and "trivial" not in said:
        return Cause.NO_FENTRY
    return Cause.DENIED


def _last_words(lines: Sequence[str], number: int) -> str:
    """Return the line that says most about a refusal, which is the one before the verifier's figures."""
    words = [line.strip() for line in lines if line.strip() and not line.startswith(("libbpf:", "processed", "-- "))]
    return words[-1][:200] if words else errno.errorcode.get(number, str(number))


def _capabilities() -> int:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text(), re.M)
    return int(found[1], 16) if found else 0


def _in_user_namespace() -> bool:
    try:
        maps = Path("/proc/self/uid_map").read_text().split()
    except FileNotFoundError:  # a kernel without user namespaces
        return False
    return maps != ["0", "0", str(_ALL_USERS)]


def _has_fuse() -> bool:
    return any(line.split()[-1] == "fuse" for line in Path("/proc/filesystems").read_text().splitlines())


def _has_fuse_types() -> bool:
    return KERNEL_TYPES.with_name("fuse").exists() or not Path("/sys/module/fuse/initstate").exists()


def _lockdown() -> str:
    try:
        found = re.search(r"\[(\w+)\]", LOCKDOWN.read_text())
    except OSError:  # securityfs is not mounted, or not ours to read: then nobody can say
        return "none"
    return found[1] if found else "none"
