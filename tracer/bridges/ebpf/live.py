"""Live capture with eBPF: whole host, one mount, one server, or a server that we start."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from tracer.bridges.ebpf import selection
from tracer.bridges.ebpf.batch import Batch, Batches
from tracer.bridges.ebpf.event import SMALL_BYTES, Choice, ConnectionFlag
from tracer.bridges.ebpf.identity import Directory, Identity, OpenDevice, describe
from tracer.bridges.ebpf.programs import RING_BYTES, TRACEPOINTS, Config, Programs
from tracer.bridges.ebpf.ring import Ring
from tracer.bridges.host import processes
from tracer.bridges.host.server import Log, check_server, ended_early, start_program
from tracer.bridges.host.words import printable
from tracer.errors import CaptureError
from tracer.records import ChannelKind, Sink

POLL_S: Final = 0.005
WORTH_DRAINING: Final = 1 << 20  # bytes that wait: more are drained at once
LOOK_ROUND_S: Final = 0.1  # how often the server and the counters are looked at
MOUNT_WAIT_S: Final = 0.5  # INIT is sent before the mount appears in mountinfo
END_S: Final = 30.0
SERVER_WAIT_S: Final = 0.3  # a device is opened before it is mounted, so its holder is found at once, or has ended
_OPCODE_INIT: Final = 26  # enum fuse_opcode
_PR_SET_CHILD_SUBREAPER: Final = 36  # <linux/prctl.h>


@dataclass(frozen=True, slots=True)
class Source:
    """What to overhear: one of these, or with none of them every connection of the host."""

    server_argv: tuple[str, ...] = ()
    pid: int | None = None
    mount: str = ""


@dataclass
class EbpfStats:
    """What a capture has seen so far; read by another thread."""

    messages: int = 0
    lost: int = 0  # events that found no room in the ring
    cut: int = 0  # messages of which only the head found room
    drains: int = 0
    most_pending: int = 0  # bytes


class EbpfBridge:
    """Overhears FUSE connections in the kernel. `attached` is set as soon as nothing more can be missed.

    `snap_bytes` are kept of each message, 0 for all. Without `syscalls`, FORGET, INTERRUPT and notifications are not
    seen; `deliveries` records when servers took their requests. `opcodes` and `caller` restrict what is kept, but INIT
    is kept with any opcodes: it tells how to read the rest, and that a number is another connection's now.
    A server that was started is let go, not ended, when the capture stops.
    """

    def __init__(
        self,
        source: Source,
        *,
        snap_bytes: int = 0,
        syscalls: bool = True,
        deliveries: bool = False,
        ring_bytes: int = RING_BYTES,
        opcodes: frozenset[int] | None = None,
        caller: int = 0,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.stats = EbpfStats()
        self.attached = threading.Event()
        self.server_pid = 0
        self._source = source
        self._syscalls = syscalls or deliveries
        self._ring_bytes = ring_bytes
        kept = None if opcodes is None else opcodes | {_OPCODE_INIT}
        self._config = Config(snap=snap_bytes, want_deliver=deliveries, opcodes=kept, pid=caller)
        self._on_note = on_note or (lambda note: None)

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Capture until there is nothing more to come, or `stop` is set. Raises CaptureError when it cannot start."""
        if self._source.server_argv:
            check_server(self._source.server_argv)
        with ExitStack() as stack:
            programs = stack.enter_context(Programs.load(self._config, self._ring_bytes, with_syscalls=self._syscalls))
            ring = Ring(programs.ring_fd, programs.ring_bytes)
            stack.callback(ring.close)
            directory = stack.enter_context(Directory(lambda: _devices(programs)))
            session = _Session(programs, ring, directory, sink, self._config, self._limits(programs))
            server = stack.enter_context(self._aim(session))
            self.attached.set()
            self._capture(session, server, stop)

    def _limits(self, programs: Programs) -> Iterator[str]:
        yield from programs.notes
        if programs.mode != TRACEPOINTS:
            yield "times of requests are those of their delivery: nothing here tells when they were queued"
        if not self._syscalls:
            yield "FORGET, INTERRUPT and notifications are not seen: only system calls show them, which were left out"

    # -- what to capture -------------------------------------------------------------------------------------------

    @contextmanager
    def _aim(self, session: _Session) -> Iterator[_Server | None]:
        """Choose the connections, and start the server if one is to be started."""
        source = self._source
        if not source.server_argv:
            session.choose(self._selection(session.directory))
            self._on_note(f"attached to {session.about()}, through eBPF ({session.programs.mode})")
            yield None
            return
        ours = selection.OfServer(session.directory)
        session.choose(ours)
        with _adopting_orphans():
            self._on_note(f"overhearing the server through eBPF ({session.programs.mode})")
            server = _Server(source.server_argv, ours)
            self.server_pid = server.process.pid
            try:
                yield server
            finally:
                server.let_go()

    def _selection(self, directory: Directory) -> selection.Selection:
        if self._source.pid is not None:
            self.server_pid = self._source.pid
            return selection.OfProcess(self._source.pid, directory)
        return selection.OfMount(self._source.mount) if self._source.mount else selection.Everything()

    # -- the capture -----------------------------------------------------------------------------------------------

    def _capture(self, session: _Session, server: _Server | None, stop: threading.Event) -> None:
        due_s = 0.0
        while not stop.is_set():
            self._pass_on(session, session.take())
            if session.ring.pending() > WORTH_DRAINING:
                continue
            if (now_s := time.monotonic()) >= due_s:
                due_s = now_s + LOOK_ROUND_S
                self._on_words(server)
                if server.has_ended() if server else session.has_ended():
                    break
            session.wait(POLL_S)
        for batch in session.end():
            self._pass_on(session, batch)
        self._on_words(server)
        if self.stats.cut:
            kept = f"only the first {SMALL_BYTES} bytes were kept, for the ring was full"
            self._on_note(f"of {self.stats.cut} messages {kept}: a larger --ring has room")
        if server is not None and not stop.is_set() and not self.stats.messages:
            raise server.start_error()

    def _pass_on(self, session: _Session, batch: Batch) -> None:
        if len(batch.records):
            session.sink.records(batch.records)
        for gap in batch.gaps:
            session.sink.gap(gap)
        stats = self.stats
        stats.messages += len(batch.records)
        stats.lost, stats.cut = session.batches.lost, session.batches.cut
        stats.drains += 1
        stats.most_pending = max(stats.most_pending, session.most_pending)

    def _on_words(self, server: _Server | None) -> None:
        for line in server.log.lines() if server else ():
            self._on_note(f"server: {line}")


class _Session:
    """The parts of a running capture, and what is known of its connections."""

    def __init__(
        self,
        programs: Programs,
        ring: Ring,
        directory: Directory,
        sink: Sink,
        config: Config,
        limits: Iterator[str],
    ) -> None:
        self.programs, self.ring, self.directory, self.sink = programs, ring, directory, sink
        self.selection: selection.Selection = selection.Everything()
        self.most_pending = 0
        self._config, self._limits = config, tuple(limits)
        self._channels: dict[int, int] = {}
        self._unwanted: list[int] = []
        self._before = set(directory.look_round())
        self._lasts_ns: dict[int, tuple[int, int]] = {}  # since and until when it has its number; INIT was seen
        self._replaced: set[int] = set()
        self.batches = Batches(
            ring,
            self._channel_of,
            begins=self._begin,
            clock_offset_ns=time.time_ns() - time.monotonic_ns(),
            unique_of=programs.unique_of,
            delivered=config.want_deliver,
        )

    def choose(self, wanted: selection.Selection) -> None:
        """Say which connections are meant; from now on the kernel leaves out what is known not to be."""
        self.selection = wanted
        if wanted.fixed:
            self._filter(Choice.ONLY, wanted.fixed)
        for connection in wanted.fixed:  # told at once, not at its first message, which may never come
            self._channel_of(connection, 0)

    def about(self) -> str:
        """Return what is overheard, for a person."""
        if not self.selection.fixed:
            return f"every FUSE connection of the host, {len(self._before)} now"
        return ", ".join(_words(self.directory.look_up(connection)) for connection in self.selection.fixed)

    def wait(self, timeout_s: float) -> None:
        """Wait a little. What is left out is forgotten once it is gone: its number may come to one that is wanted."""
        present = self.directory.wait(timeout_s)
        if present is not None and not present.issuperset(self._unwanted):
            self._unwanted = [connection for connection in self._unwanted if connection in present]
            self._filter(Choice.EXCEPT, self._unwanted)

    def has_ended(self) -> bool:
        """Tell whether nothing more can come of what was asked for."""
        fixed = self.selection.fixed
        return self.selection.has_ended() or bool(fixed and self._replaced.issuperset(fixed))

    def take(self) -> Batch:
        """Return the next records that are in order."""
        self.most_pending = max(self.most_pending, self.ring.pending())
        return self.batches.take(time.monotonic_ns())

    def end(self) -> Iterator[Batch]:
        """Detach, then yield what is still in the ring; the last batch tells what was lost without a trace."""
        self.programs.detach()
        deadline_s = time.monotonic() + END_S  # a record that is never committed would stay for ever
        while self.ring.pending() and time.monotonic() < deadline_s:
            yield self.batches.take(time.monotonic_ns())
        yield self.batches.finish(self.programs.counters()["events"])

    def _begin(self, connection: int, since_ns: int, until_ns: int) -> None:
        """An INIT was sent: what had this number before is no more."""
        self._channels.pop(connection, None)
        self._before.discard(connection)
        self._lasts_ns[connection] = since_ns, until_ns

    def _channel_of(self, connection: int, s_dev: int) -> int:
        """Return the channel of a connection, -1 for one that is not meant. Superblocks share their connection's."""
        if connection not in self._channels:
            identity, wanted = self._met(connection)
            self._channels[connection] = -1
            if wanted:
                saw_init = connection not in self._before
                info = describe(identity, saw_init=saw_init, snap_bytes=self._config.snap, limits=self._limits)
                # A guest's virtqueue is no file that anybody reads, nor is a ring.
                has_reads = self._config.want_deliver and info.kind is not ChannelKind.VIRTIOFS
                has_reads &= not (identity.agreed and identity.agreed.uses_uring)
                self._channels[connection] = self.sink.channel(replace(info, deliveries=has_reads))
                if info.kind is ChannelKind.VIRTIOFS:
                    self.batches.has_no_server(self._channels[connection])
            elif self.selection.fixed:
                self._replaced.add(connection)
            else:
                self._unwanted = [*self._unwanted, connection][-16:]
                self._filter(Choice.EXCEPT, self._unwanted)
        return self._channels[connection]

    def _met(self, connection: int) -> tuple[Identity, bool]:
        """Find out about a connection. A new one is waited for: its first request comes while mount(2) is at work."""
        begin_s = time.monotonic()
        while True:
            identity = self.directory.look_up(connection, *self._lasts_ns.get(connection, (0, 0)))
            wanted = self.selection.wants(identity)
            waited_s = time.monotonic() - begin_s
            if wanted is False or (wanted and identity.mount is not None and waited_s < MOUNT_WAIT_S):
                return identity, wanted
            if waited_s > (SERVER_WAIT_S if wanted is None else MOUNT_WAIT_S):
                # A new one that nobody holds any more: most likely our server's, which has ended already.
                return identity, connection not in self._before if wanted is None else wanted
            time.sleep(POLL_S)

    def _filter(self, choice: Choice, connections: Sequence[int]) -> None:
        self.programs.configure(replace(self._config, connections=tuple(connections), choice=choice))


def _devices(programs: Programs) -> list[OpenDevice]:
    with _standing_on_virtiofs():
        return [
            OpenDevice(
                one.tgid,
                one.fd,
                one.connection,
                one.minor,
                one.max_write,
                one.max_pages,
                is_on_mount=bool(one.flags & ConnectionFlag.ON_MOUNT),
                uses_uring=bool(one.flags & ConnectionFlag.IO_URING),
            )
            for one in programs.connections()
        ]


@contextmanager
def _standing_on_virtiofs() -> Iterator[None]:
    """Have each virtiofs mount open as a place, which asks its server nothing: no process here holds its connection."""
    with ExitStack() as stack:
        for mount in processes.mounts():
            if mount.is_virtiofs:
                with suppress(OSError):
                    fd = os.open(mount.mount_point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                    stack.callback(os.close, fd)
        yield


def _words(identity: Identity) -> str:
    """Return "/mnt/photos, served by 812 (bindfs)"."""
    mount, pid = identity.mount, identity.server_pid
    where = printable(os.fsencode(mount.mount_point), 200) if mount else f"connection {identity.connection}"
    return f"{where}, served by {pid} ({processes.name(pid)})" if pid else where


class _Server:
    """A server that we started, and its connections."""

    def __init__(self, argv: Sequence[str], ours: selection.OfServer) -> None:
        """Raises CaptureError when it cannot be started."""
        self.log = Log()
        self.process = start_program(argv, self.log)
        self._argv, self._ours = argv, ours

    def has_ended(self) -> bool:
        """Tell whether it has ended, and nothing it started serves any more: a daemon goes on as another process."""
        return self.process.poll() is not None and self._ours.has_ended()

    def start_error(self) -> CaptureError:
        """Return what to tell a user whose server ended before it served anything."""
        return ended_early(self._argv, self.process.poll() or 0, self.log)

    def let_go(self) -> None:
        """Leave it alone; it goes on without us."""
        if self.process.poll() is None:
            threading.Thread(target=self.process.wait, name="server-reaper", daemon=True).start()
        self.log.close()


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Become the parent of daemons whose own parent ends, so that they are known to be ours."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
