"""Loads the eBPF programs, attaches them, and talks to them while they run.

Nothing is pinned: programs, maps and attachments belong to descriptors of this process and end with it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from tracer.bridges.ebpf import directmap, failures, libbpf, objects
from tracer.bridges.ebpf.event import (
    CONFIG,
    CONNECTION,
    CONNECTIONS_MAX,
    COUNTERS,
    UNIQUE_QUERY,
    Choice,
    ConnectionFlag,
)
from tracer.bridges.ebpf.failures import Cause, Facts, LoadFailure
from tracer.bridges.ebpf.objects import FUNCTIONS as FUNCTIONS
from tracer.bridges.ebpf.objects import OBJECT as OBJECT
from tracer.bridges.ebpf.objects import TRACEPOINTS as TRACEPOINTS

RING_BYTES: Final = 64 << 20
PROBE_RING_BYTES: Final = 1 << 16
_ALL_OPCODES = (1 << 64) - 1
_ITERATOR_READ_BYTES = CONNECTION.itemsize * 2048
_NO_PAYLOADS = "payloads that lie in pages cannot be read on this machine: headers and arguments only"
_NO_VIRTIO_FORGETS = "FORGETs of virtiofs are not seen: this kernel refuses programs at its functions"


@dataclass(frozen=True, slots=True)
class Config:
    """What is to be recorded; can be changed while the programs run."""

    snap: int = 0  # FUSE bytes to keep of each message; 0: all
    want_payload: bool = True  # what lies in pages: data of READ, WRITE and so on
    want_deliver: bool = False  # when each request was read by the server; needs the system call program
    opcodes: frozenset[int] | None = None  # None: all
    connections: tuple[int, ...] = ()
    choice: Choice = Choice.ALL  # what `connections` means
    pid: int = 0  # in.h.pid of the requests, which is the calling thread's number; 0: all
    wakeup_bytes: int = 0  # wake an epoll reader when so much is pending; 0: never

    def pack(self, direct_map: int | None) -> np.ndarray:
        """Return it as the programs read it."""
        if len(self.connections) > CONNECTIONS_MAX:
            raise ValueError(f"at most {CONNECTIONS_MAX} connections can be chosen, not {len(self.connections)}")
        packed = np.zeros(1, CONFIG)
        packed["direct_map"] = direct_map or 0
        packed["opcodes"] = _bits(self.opcodes)
        packed["other_opcodes"] = self.opcodes is None or any(opcode >= 64 for opcode in self.opcodes)
        packed["snap"] = self.snap
        packed["pid"] = self.pid
        packed["wakeup_bytes"] = self.wakeup_bytes
        packed["connection_count"] = len(self.connections)
        packed["connections"][0, : len(self.connections)] = self.connections
        packed["connection_choice"] = self.choice
        packed["want_payload"] = self.want_payload
        packed["want_deliver"] = self.want_deliver
        return packed


def _bits(opcodes: frozenset[int] | None) -> np.uint64:
    if opcodes is None:
        return np.uint64(_ALL_OPCODES)
    return np.uint64(sum(1 << opcode for opcode in opcodes if opcode < 64))


class Connection(NamedTuple):
    """An open /dev/fuse, or with ON_MOUNT a file of this process on a FUSE mount, and its connection."""

    tgid: int
    fd: int
    connection: int  # 0: a device that no mount uses yet
    minor: int  # agreed in INIT; 0: not yet
    max_write: int
    max_pages: int
    s_dev: int  # of the first mount, or of the file's; major << 20 | minor; 0: not known
    flags: ConnectionFlag


class Programs:
    """The programs at work. Made by `load`; `close`, or the end of the process, takes all of them away."""

    def __init__(self, library: Any, handle: int, mode: str, ring_bytes: int, notes: tuple[str, ...] = ()) -> None:
        self._library = library
        self._object = handle
        self._links: list[int] = []
        self.mode = mode
        self.ring_bytes = ring_bytes
        self.ring_fd = self._map("events")
        self.direct_map: int | None = None
        self.notes = notes  # what cannot be seen, a sentence each
        self._counters = np.zeros(library.libbpf_num_possible_cpus(), COUNTERS)

    @classmethod
    def load(
        cls,
        config: Config,
        ring_bytes: int = RING_BYTES,
        *,
        with_syscalls: bool = True,
        modes: Sequence[str] = (TRACEPOINTS, FUNCTIONS),
        copy_twice: bool = False,
    ) -> Programs:
        """Load and attach what this kernel takes, by the first of `modes` that it has. Raises LoadFailure.

        `ring_bytes` is a power of two and at least a page. `copy_twice` copies long messages as kernels before 6.17 do.
        """
        functions = objects.kernel_functions()
        attempts = list(_attempts(modes, functions, with_syscalls=with_syscalls))
        for number, attempt in enumerate(attempts, start=1):
            try:
                handle = objects.load(attempt.programs, ring_bytes, functions, copy_twice=copy_twice)
                break
            except LoadFailure as failure:
                if failure.cause not in (Cause.NO_HOOKS, Cause.NO_FENTRY) or number == len(attempts):
                    raise
        programs = cls(objects.library(), handle, attempt.mode, ring_bytes, attempt.notes)
        try:
            programs._start(config)
        except BaseException:
            programs.close()
            raise
        return programs

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def attach(self) -> None:
        """See messages from now on, again after `detach`; `load` has attached already."""
        for name in self.attached():
            self._links.append(self._attach(name))

    def detach(self) -> None:
        """See nothing more; what is in the ring can still be read, and the counters too."""
        while self._links:
            self._library.bpf_link__destroy(self._links.pop())

    def close(self) -> None:
        """Detach and unload everything; what is in the ring can no longer be read."""
        self.detach()
        if self._object:
            self._library.bpf_object__close(self._object)
            self._object = 0

    def configure(self, config: Config) -> None:
        """Change what is recorded, at once for all CPUs."""
        self._update(".bss", config.pack(self.direct_map))

    def counters(self) -> np.ndarray:
        """Return COUNTERS, one for each possible CPU, as they are now."""
        key = ctypes.c_uint32(0)
        pointer = self._counters.ctypes.data
        if self._library.bpf_map_lookup_elem(self._map("counters"), ctypes.byref(key), pointer):
            raise libbpf.failure()
        return self._counters.copy()

    def recursion_misses(self) -> int:
        """Return how often a program was not run because it ran on that CPU already: events nothing else counts."""
        return sum(self._info(name).recursion_misses for name in self.attached())

    def costs(self) -> dict[str, tuple[int, int]]:
        """Return program -> (runs, ns in all), which the kernel counts only while kernel.bpf_stats_enabled is 1."""
        return {name: (info.run_cnt, info.run_time_ns) for name in self.attached() for info in [self._info(name)]}

    def ids(self) -> tuple[int, ...]:
        """Return the numbers by which the kernel knows the programs that see messages (bpftool prog show id N)."""
        return tuple(self._info(name).id for name in self.attached())

    def attached(self) -> tuple[str, ...]:
        """Return the names of the programs that are loaded to see messages."""
        return tuple(name for name, fd in self._loaded() if fd >= 0 and name not in objects.QUESTIONS)

    def connections(self) -> list[Connection]:
        """Return every open /dev/fuse of the host, and files of this process opened with O_PATH on a FUSE mount."""
        link = self._attach("list_connections")
        try:
            fd = self._library.bpf_iter_create(self._library.bpf_link__fd(link))
            if fd < 0:
                raise libbpf.failure()
            try:
                lines = np.frombuffer(b"".join(_read_all(fd)), CONNECTION)
            finally:
                os.close(fd)
        finally:
            self._library.bpf_link__destroy(link)
        return [Connection._make(line)._replace(flags=ConnectionFlag(line[-1])) for line in lines.tolist()]

    def unique_of(self, req: int, opcode: int, nodeid: int) -> int | None:
        """Return the unique of a request that is still open, by the address its SEND carried; None if it is not."""
        query = np.zeros(1, UNIQUE_QUERY)
        query["req"], query["opcode"], query["nodeid"] = req, opcode, nodeid
        self._run("read_unique", query)
        return int(query["unique"][0]) if query["found"][0] else None

    def _start(self, config: Config) -> None:
        self.direct_map = directmap.find(lambda query: self._run("calibrate", query))
        if self.direct_map is None and config.want_payload:
            self.notes += (_NO_PAYLOADS,)
        self.configure(config)
        self.attach()

    def _loaded(self) -> Iterator[tuple[str, int]]:
        for program in objects.each(self._library.bpf_object__next_program, self._object):
            yield self._library.bpf_program__name(program).decode(), self._library.bpf_program__fd(program)

    def _attach(self, name: str) -> int:
        libbpf.forget_messages()
        link = self._library.bpf_program__attach(self._program(name))
        if not link:
            raise failures.explain(ctypes.get_errno(), libbpf.messages(), Facts.gather())
        return int(link)

    def _program(self, name: str) -> int:
        return int(self._library.bpf_object__find_program_by_name(self._object, name.encode()))

    def _map(self, name: str) -> int:
        return int(self._library.bpf_map__fd(objects.map_named(self._library, self._object, name)))

    def _update(self, name: str, value: np.ndarray) -> None:
        key = ctypes.c_uint32(0)
        if self._library.bpf_map_update_elem(self._map(name), ctypes.byref(key), value.ctypes.data, libbpf.BPF_ANY):
            raise libbpf.failure()

    def _run(self, name: str, argument: np.ndarray) -> None:
        """Call one of the programs that answer questions; it changes `argument`."""
        options = libbpf.TestRunOptions(sz=ctypes.sizeof(libbpf.TestRunOptions))
        options.ctx_in, options.ctx_size_in = argument.ctypes.data, argument.nbytes
        fd = self._library.bpf_program__fd(self._program(name))
        if self._library.bpf_prog_test_run_opts(fd, ctypes.byref(options)):
            raise libbpf.failure()

    def _info(self, name: str) -> libbpf.ProgramInfo:
        info = libbpf.ProgramInfo()
        length = ctypes.c_uint32(ctypes.sizeof(info))
        fd = self._library.bpf_program__fd(self._program(name))
        if self._library.bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(length)):
            raise libbpf.failure()
        return info


class Finding(NamedTuple):
    """One thing that can or cannot be captured here; `mend` says what would change it."""

    name: str
    is_good: bool
    fact: str
    mend: str = ""


def probe() -> list[Finding]:
    """Load the programs for a moment, without recording anything, and tell what they could see."""
    try:
        with Programs.load(Config(opcodes=frozenset()), PROBE_RING_BYTES) as programs:
            return list(_findings(programs))
    except LoadFailure as failure:
        return [Finding("eBPF", False, failure.message, failure.hint)]


def _findings(programs: Programs) -> Iterator[Finding]:
    if programs.mode == TRACEPOINTS:
        yield Finding("eBPF", True, "every request of this host is seen, by the kernel's own tracepoints")
    else:
        fact = "every request of this host is seen, by functions of the kernel: when it is read, not when it is queued"
        yield Finding("eBPF", True, fact, "Linux 6.12 has tracepoints")
    if programs.direct_map is None:
        yield Finding("eBPF payloads", False, _NO_PAYLOADS, "--bridge strace sees what passes read(2) and write(2)")
    else:
        yield Finding("eBPF payloads", True, "the data of READ and WRITE can be read, spliced and by io_uring too")
    if _NO_VIRTIO_FORGETS in programs.notes:
        yield Finding("eBPF, virtiofs", False, _NO_VIRTIO_FORGETS, "a kernel that allows fentry")


class _Attempt(NamedTuple):
    mode: str
    programs: tuple[str, ...]
    notes: tuple[str, ...]


def _attempts(modes: Sequence[str], functions: frozenset[str], *, with_syscalls: bool) -> Iterator[_Attempt]:
    """Yield what to load, the best first."""
    forgets = objects.virtio_forgets(functions)
    for mode in modes:
        wanted = objects.choose(mode, functions, with_syscalls=with_syscalls)
        yield _Attempt(mode, wanted + forgets, ())
        if forgets and mode == TRACEPOINTS:
            yield _Attempt(mode, wanted, (_NO_VIRTIO_FORGETS,))


def _read_all(fd: int) -> Iterator[bytes]:
    while chunk := os.read(fd, _ITERATOR_READ_BYTES):
        yield chunk
