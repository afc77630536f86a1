"""Live capture with strace: start a server under it, or attach it to one that runs."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tracer.bridges.host import processes, server
from tracer.bridges.host.mount_watch import MountWatch
from tracer.bridges.host.processes import Mount
from tracer.bridges.host.targets import find_mount, servers_of_mount
from tracer.bridges.strace import command, rivals, tracee
from tracer.bridges.strace.assembler import TOO_LONG
from tracer.bridges.strace.channels import ChannelBook, Connection, Identity
from tracer.bridges.strace.devices import Role
from tracer.bridges.strace.drain import Drain, Drained
from tracer.bridges.strace.outbox import Outbox, StraceStats
from tracer.bridges.strace.parser import LogParser
from tracer.bridges.strace.splitter import LineSplitter
from tracer.records import BridgeKind, ChannelInfo, ChannelKind, Gap, Sink

HOLD_BACK_NS: Final = 20_000_000  # a write is printed when it returns: so long later ones wait for it
_IDLE_S: Final = 0.1  # how often `stop` is looked at when nothing happens
_BUSY_S: Final = 0.01  # how often records that wait are looked at when nothing happens
_PACE_S: Final = 0.01  # how often all but the parsing is done when much happens
_MOUNT_WAIT_NS: Final = 2_000_000_000  # INIT may be read before the mount appears in mountinfo
_DETACH_S: Final = (5.0, 2.0, 2.0)  # patience after each of the signals below
_DETACH_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_URING_PARAMETER: Final = Path("/sys/module/fuse/parameters/enable_uring")


class StraceBridge:
    """Overhears a server through strace. Give one of `server_argv`, `pid` and `mount`.

    `snap_bytes` are kept of each buffer, 0 for all. `attached` is set as soon as nothing more can be missed;
    `server_pid` is known then. A server is let go, not ended, when the capture stops.
    """

    def __init__(
        self,
        *,
        server_argv: Sequence[str] | None = None,
        pid: int | None = None,
        mount: str | Path | None = None,
        snap_bytes: int = command.Snap.HEADERS,
        strace_options: Sequence[str] = (),
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        if sum(bool(given) for given in (server_argv, pid is not None, mount)) != 1:
            raise ValueError("give one of server_argv, pid and mount")
        self.stats = StraceStats()
        self.attached = threading.Event()
        self.server_pid = 0  # the first of them, when a mount has several
        self._argv = list(server_argv or ())
        self._pid = pid
        self._mount = str(mount) if mount else ""
        self._snap_bytes = int(snap_bytes)
        self._options = tuple(strace_options)
        self._on_note = on_note or (lambda note: None)
        self._commands: dict[int, str] = {}
        self._mounts = MountWatch()
        self._callers: processes.CallerNames | None = None
        self._server_pids: set[int] = set()
        self._first_seen_ns: dict[int, int] = {}  # per connection

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Capture until the server ends or `stop` is set. Raises CaptureError when it cannot start."""
        strace = command.find_strace()
        pids = self._targets()
        with ExitStack() as stack:
            stack.enter_context(self._mounts)
            folder = Path(tempfile.mkdtemp(prefix="fusewire-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            drain = Drain(folder / "strace")
            stack.callback(drain.close)
            drain.start()
            target = self._start(strace, folder / "strace", pids)
            stack.callback(target.close)
            stack.callback(target.signal_strace, signal.SIGINT)  # lets the server go, also when the sink has failed
            shutil.rmtree(folder, ignore_errors=True)  # both ends are open: nothing is left behind if we are killed
            self._capture(target, drain, sink, stop)

    # -- start -----------------------------------------------------------------------------------------------------

    def _targets(self) -> list[int]:
        """Return the processes to attach to; none when a server is to be started."""
        if self._argv:
            server.check_server(self._argv)
            return []
        pids = [self._pid] if self._pid is not None else self._servers_of_mount()
        for pid in pids:
            tracee.check_pid(pid)
            self._commands[pid] = processes.command_line(pid)
            if processes.hides_fds(pid):
                self._on_note(f"whether process {pid} has /dev/fuse open cannot be seen from here")
            elif not processes.device_fds(pid):
                self._on_note(f"process {pid} does not have /dev/fuse open now: nothing to see until it opens it")
        return pids

    def _servers_of_mount(self) -> list[int]:
        pids = servers_of_mount(self._mount)
        if len(pids) > 1:
            mount = find_mount(self._mount)
            rivals.check_one_server(mount.mount_point, mount.connection, pids)
        return pids

    def _start(self, strace: command.Strace, fifo: Path, pids: list[int]) -> tracee.Tracee:
        options = command.capture_options(strace, self._snap_bytes, self._options)
        log = None
        if self._argv and os.geteuid() != 0:
            pids, log = tracee.start_untraced(self._argv)
            self._on_note("as an ordinary user the server is started first and traced then: INIT is not seen")
        if pids:
            target = tracee.attach(command.attach_command(options, fifo, pids), pids, log)
            names = ", ".join(f"{pid} ({processes.name(pid)})" for pid in pids)
            self._on_note(f"attached to {names}")
        else:
            target = tracee.launch(command.launch_command(options, fifo, self._argv))
            self._commands[target.process.pid] = shlex.join(self._argv)
        self._server_pids.update(target.server_pids)
        self.server_pid = target.server_pids[0]
        self.attached.set()
        return target

    # -- the capture -----------------------------------------------------------------------------------------------

    def _capture(self, target: tracee.Tracee, drain: Drain, sink: Sink, stop: threading.Event) -> None:
        book = ChannelBook(self._describe, self._identify)
        outbox = Outbox(sink, book, self.stats)
        parser = LogParser(book, BridgeKind.STRACE, has_dumps=command.makes_dumps(self._options), comm_of=self._comm_of)
        splitter = LineSplitter()
        letting_go = _LettingGo(target, may_kill=command.may_kill(self._options))
        due_s = 0.0
        while True:
            drained = drain.take(_BUSY_S if outbox.is_waiting else _IDLE_S)
            self._parse(drained, splitter, parser)
            outbox.take(parser.take_records(), parser.take_losses())
            if drained.has_ended:
                break
            if (now_s := time.monotonic()) < due_s:
                continue  # strace writes line by line: the rest need not be done for each of them
            due_s = now_s + _PACE_S
            self._on_words(target.log.lines())
            if stop.is_set():
                letting_go.step()
            if letting_go.gave_up or (not target.has_strace and target.process.poll() is not None):
                drain.cancel()  # the next round reads what is left
            if not (book.has_unresolved and self._waits_for_mount(book)):
                outbox.flush_before(time.time_ns() - HOLD_BACK_NS)
            self.stats.lines = parser.line_count
        parser.finish(splitter.rest())
        outbox.take(parser.take_records(), parser.take_losses())
        outbox.flush()
        self.stats.lines, self.stats.unparsed_lines = parser.line_count, parser.unparsed_count
        self._conclude(target, sink, stop)

    @staticmethod
    def _parse(drained: Drained, splitter: LineSplitter, parser: LogParser) -> None:
        if drained.dropped_bytes:
            splitter.skip_line()
            parser.lose(f"{drained.dropped_bytes} bytes of strace's output came faster than they could be stored")
        for chunk in drained.chunks:
            parser.feed(splitter.feed(chunk))
        if not drained.chunks:
            parser.release()
        for _ in range(splitter.take_dropped()):
            parser.lose(TOO_LONG, 1)

    def _conclude(self, target: tracee.Tracee, sink: Sink, stop: threading.Event) -> None:
        """Say why the capture ended, when nobody asked for it."""
        self._on_words(target.log.finish())
        if stop.is_set():
            return
        target.server_pids = sorted(self._server_pids)
        if target.outlived_strace():
            reason = "strace ended while the server went on: nothing was seen after this"
            self.stats.gaps += 1
            sink.gap(Gap(time.time_ns(), -1, 0, reason))
            self._on_note(reason)
        elif self._argv and not self.stats.messages:
            raise tracee.start_error(self._argv, target.exit_code(), target.log)

    def _on_words(self, lines: list[str]) -> None:
        for line in lines:
            self._on_note(f"server: {line}" if self._argv else line)

    # -- what is known of a connection -----------------------------------------------------------------------------

    def _identify(self, tid: int, fd: int) -> Identity | None:
        number = processes.connection_of(tid, fd)
        pid = processes.thread_group(tid)
        if not pid:
            return None
        self._server_pids.add(pid)
        if pid not in self._commands:
            self._commands[pid] = processes.command_line(pid)
        if self._callers is None and processes.shares_pid_namespace(pid):
            self._callers = processes.CallerNames()
        if number:
            self._first_seen_ns.setdefault(number, time.monotonic_ns())
        return Identity(number, pid)

    def _comm_of(self, data: bytes) -> bytes:
        return self._callers.of_request(data) if self._callers else b""

    def _waits_for_mount(self, book: ChannelBook) -> bool:
        """Tell whether a connection is too new to have its mount in mountinfo."""
        now_ns = time.monotonic_ns()
        return any(
            connection.channel < 0
            and connection.number
            and self._mount_of(connection) is None
            and now_ns - self._first_seen_ns.get(connection.number, 0) < _MOUNT_WAIT_NS
            for connection in book.connections
        )

    def _describe(self, connection: Connection) -> ChannelInfo:
        mount = self._mount_of(connection)
        kind = ChannelKind.CUSE if connection.role is Role.CUSE else ChannelKind.DEV_FUSE
        owner = f"fd {connection.fd} of pid {connection.server_pid or connection.tid}"
        return ChannelInfo(
            name=mount.mount_point if mount else owner,
            kind=ChannelKind.FUSEBLK if mount and mount.fstype.startswith("fuseblk") else kind,
            connection=connection.number,
            mount_point=mount.mount_point if mount else "",
            fstype=mount.fstype if mount else "",
            read_only=bool(mount and mount.read_only),
            st_dev=mount.st_dev if mount else "",
            server_pid=connection.server_pid,
            server_command=self._commands.get(connection.server_pid, ""),
            kernel=os.uname().release,
            clock="realtime",
            big_endian=connection.order == "big",
            snap_bytes=self._snap_bytes,
            notes=tuple(self._limits(connection)),
        )

    def _mount_of(self, connection: Connection) -> Mount | None:
        """Return where a connection is mounted, as we see it or, failing that, as its server does."""
        for pid in ("self", connection.server_pid) if connection.number else ():
            for mount in processes.mounts(pid):
                if mount.connection == connection.number:
                    return mount
        return self._mounts.last_of(connection.number) if connection.number else None

    def _limits(self, connection: Connection) -> list[str]:
        """Say what strace cannot see here, one sentence each."""
        notes = []
        if not connection.saw_init:
            notes.append("INIT was not seen: the server ran before the capture began")
        if self._snap_bytes:
            notes.append(f"of each buffer the first {self._snap_bytes} bytes were kept")
        notes.append("file data that the server splices is not seen, only its length")
        try:
            if _URING_PARAMETER.read_text().strip() in ("Y", "1"):
                notes.append("requests that the server takes through io_uring are not seen")
        except OSError:
            pass  # a kernel without FUSE over io_uring
        return notes


class _LettingGo:
    """Makes strace detach: politely, then less so."""

    def __init__(self, target: tracee.Tracee, *, may_kill: bool) -> None:
        self.gave_up = False
        self._target = target
        self._signals = list(zip(_DETACH_SIGNALS, _DETACH_S, strict=True))[: 3 if may_kill else 2]
        self._next_s = 0.0

    def step(self) -> None:
        """Send the next signal when it is due."""
        if time.monotonic() < self._next_s:
            return
        if not self._signals:
            self.gave_up = True
            return
        number, patience_s = self._signals.pop(0)
        self._target.signal_strace(number)
        self._next_s = time.monotonic() + patience_s
