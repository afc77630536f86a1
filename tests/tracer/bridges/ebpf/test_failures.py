"""Each reason why the programs cannot be loaded has its own line; those that can be brought about here are."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo import possible
from tests.tracer.bridges.ebpf.captured import why_not_built
from tests.tracer.bridges.ebpf.conftest import WithOnly
from tracer.bridges.ebpf import objects
from tracer.bridges.ebpf.failures import CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, Cause, Facts, LoadFailure, explain
from tracer.bridges.ebpf.programs import Config, Programs

ALL = (1 << 41) - 1
ROOT = Facts(ALL, is_in_user_namespace=False, has_btf=True, has_fuse=True, has_fuse_types=True, lockdown="none")
# Loads, and prints the cause or how well it went.
LOAD = """
from tracer.bridges.ebpf.failures import LoadFailure
from tracer.bridges.ebpf.programs import Config, Programs
{before}
try:
    with Programs.load(Config(), 1 << 20, modes={modes}) as programs:
        print("LOADED", programs.mode, programs.direct_map is not None, len(programs.connections()) >= 0)
except LoadFailure as failure:
    print(failure.cause.name)
"""
# Refuses bpf(2), as the profiles of containers do: seccomp(2) with a filter of four instructions.
SECCOMP = """
import ctypes, struct
BPF, ALLOW, REFUSE = 321, 0x7FFF0000, 0x00050001
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in (
    (0x20, 0, 0, 0), (0x15, 0, 1, BPF), (0x06, 0, 0, REFUSE), (0x06, 0, 0, ALLOW))))
filter = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
"""

needs_kernel = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(possible.why_not_root() is not None, reason=str(possible.why_not_root())),
    pytest.mark.skipif(why_not_built() is not None, reason=str(why_not_built())),
]


def loading(prefix: list[str], before: str = "", modes: str = "('tracepoints', 'functions')") -> str:
    """Return what loading says in a process that is started in some way."""
    words = [*prefix, sys.executable, "-c", LOAD.format(before=before, modes=modes)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


class TestBroughtAbout:
    pytestmark = needs_kernel

    def test_without_capabilities_both_are_asked_for(self, with_only: WithOnly) -> None:
        assert loading(with_only()) == "NO_CAP_BPF"

    def test_without_perfmon_it_is_asked_for(self, with_only: WithOnly) -> None:
        assert loading(with_only("bpf")) == "NO_CAP_PERFMON"

    def test_bpf_and_perfmon_are_enough_where_fuse_is_no_module(self, with_only: WithOnly) -> None:
        is_module = Path("/sys/kernel/btf/fuse").exists()
        expected = "MODULE_TYPES" if is_module else "LOADED tracepoints True True"
        assert loading(with_only("bpf", "perfmon")) == expected

    def test_a_kernel_without_types_is_told(self) -> None:
        hidden = 'mount -t tmpfs none /sys/kernel/btf && exec "$0" "$@"'
        assert loading(["unshare", "--mount", "sh", "-c", hidden]) == "NO_BTF"

    def test_the_root_of_a_container_is_sent_to_the_host(self) -> None:
        if subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False).returncode != 0:
            pytest.skip("this kernel makes no user namespaces")
        assert loading(["unshare", "--user", "--map-root-user"]) == "CONTAINER"

    def test_a_missing_libbpf_is_told(self) -> None:
        libraries = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
        library = next(line.split()[-1] for line in libraries.splitlines() if "libbpf.so.1 " in line)
        hidden = f'mount --bind /dev/null "$(readlink -f {library})" && exec "$0" "$@"'
        assert loading(["unshare", "--mount", "sh", "-c", hidden]) == "NO_LIBBPF"

    def test_a_refused_system_call_is_told_from_missing_capabilities(self) -> None:
        assert loading([], SECCOMP) == "DENIED"

    def test_a_kernel_that_refuses_programs_at_functions_is_told(self) -> None:
        said = loading([], modes="('functions',)")
        assert said in ("NO_FENTRY", "LOADED functions True True")


def test_an_object_that_was_not_built_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(objects, "OBJECT", tmp_path / "absent.bpf.o")
    with pytest.raises(LoadFailure) as caught:
        Programs.load(Config(), 1 << 20)
    assert caught.value.cause is Cause.NO_OBJECT
    assert "apt-get install clang libbpf-dev" in caught.value.hint
    assert "make venv" in caught.value.hint


REFUSED = ["libbpf: prog 'on_send': BPF program load failed: Operation not permitted"]
CASES = {
    "lockdown": (errno.EINVAL, [], ROOT._replace(lockdown="confidentiality"), Cause.LOCKED_DOWN),
    "no types": (errno.ESRCH, [], ROOT._replace(has_btf=False), Cause.NO_BTF),
    "no tracepoints": (errno.ESRCH, ["failed to find kernel BTF type ID"], ROOT, Cause.NO_HOOKS),
    "types of modules are missing (5.10)": (
        errno.EINVAL,
        ["failed to resolve CO-RE relocation <byte_off> [73] struct fuse_dev.fc (0:0 @ offset 0)"],
        ROOT._replace(has_fuse_types=False),
        Cause.NO_HOOKS,
    ),
    "no module": (errno.ESRCH, [], ROOT._replace(has_fuse=False), Cause.NO_MODULE),
    "no memory": (errno.ENOMEM, [], ROOT, Cause.NO_MEMORY),
    "no CAP_BPF": (errno.EPERM, REFUSED, ROOT._replace(capabilities=0), Cause.NO_CAP_BPF),
    "no CAP_PERFMON": (errno.EPERM, REFUSED, ROOT._replace(capabilities=1 << CAP_BPF), Cause.NO_CAP_PERFMON),
    "CAP_SYS_ADMIN is both": (errno.EPERM, REFUSED, ROOT._replace(capabilities=1 << CAP_SYS_ADMIN), Cause.NO_FENTRY),
    "types of a module": (
        errno.EPERM,
        ["libbpf: failed to iterate BTF objects: -1"],
        ROOT._replace(capabilities=1 << CAP_BPF | 1 << CAP_PERFMON),
        Cause.MODULE_TYPES,
    ),
    "container": (errno.EPERM, REFUSED, ROOT._replace(is_in_user_namespace=True), Cause.CONTAINER),
    "seccomp": (errno.EPERM, ["libbpf: Couldn't load trivial BPF program."], ROOT, Cause.DENIED),
    "a bug": (errno.EACCES, ["R0 invalid mem access 'scalar'", "processed 12 insns"], ROOT, Cause.REFUSED),
}


@pytest.mark.parametrize("case", CASES)
def test_errno_and_what_was_said_lead_to_the_cause(case: str) -> None:
    number, lines, facts, cause = CASES[case]
    failure = explain(number, lines, facts)
    assert failure.cause is cause
    assert failure.hint
    assert "\n" not in str(failure)


def test_a_refusal_of_the_verifier_says_what_it_did_not_like() -> None:
    failure = explain(errno.EACCES, ["R0 invalid mem access 'scalar'", "processed 12 insns"], ROOT)
    assert "R0 invalid mem access" in failure.message


def test_each_cause_has_a_line_of_its_own() -> None:
    assert len({cause.message for cause in Cause}) == len(Cause)


def test_facts_are_those_of_this_process() -> None:
    facts = Facts.gather()
    assert facts.may(CAP_BPF) == (os.geteuid() == 0 and not facts.is_in_user_namespace)
    assert facts.has_btf == Path("/sys/kernel/btf/vmlinux").exists()
