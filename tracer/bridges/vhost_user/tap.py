"""Live capture between a VMM and its virtiofs daemon."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tracer.bridges.host.words import printable
from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.messages import Wire
from tracer.bridges.vhost_user.recorder import MOST_WAITING_BYTES, Recorder
from tracer.bridges.vhost_user.session import Session
from tracer.bridges.vhost_user.vring import refuse_weakly_ordered
from tracer.errors import CaptureError
from tracer.records import ChannelInfo, ChannelKind, Sink

LOOK_ROUND_S: Final = 0.1  # how often it is looked whether to stop
DAX_NOTE: Final = "with DAX (SETUPMAPPING) the guest reads and writes file data past the virtqueue: that is not seen"
UNIX_PATH_BYTES: Final = 107  # of struct sockaddr_un, without the final zero


@dataclass
class TapStats:
    """What a capture has seen so far; read by another thread."""

    messages: int = 0
    lost: int = 0
    reason: str = ""  # why the session ended


class VhostUserBridge:
    """Listens where a VMM connects, connects to virtiofsd, and overhears every queue between the two.

    One session: it ends with the VMM or the daemon. Whoever stops it before cuts the guest off from its files.
    `listen` is a path that is not there yet, or the descriptor of a socket that listens already: who starts a daemon
    that way can start this instead. `listening` is set as soon as a VMM can connect. `snap_bytes` are kept of each
    message, 0 for all. `tag` is the device's, if it is known: a daemon may tell it, but QEMU keeps it to itself.
    """

    def __init__(
        self,
        listen: Path | int,
        daemon: Path,
        *,
        snap_bytes: int = 0,
        tag: str = "",
        most_waiting: int = MOST_WAITING_BYTES,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.stats = TapStats()
        self.listening = threading.Event()
        self._listen, self._daemon = listen, daemon
        self._snap_bytes, self._tag, self._most_waiting = snap_bytes, tag, most_waiting
        self._on_note = on_note or (lambda note: None)

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Capture until the VMM or the daemon is gone, or `stop` is set. Raises CaptureError when it cannot start."""
        refuse_weakly_ordered()
        with ExitStack() as stack:
            listener = stack.enter_context(self._listening())
            daemon = Wire(_connected(self._daemon), "the daemon")
            stack.callback(daemon.close)
            self.listening.set()
            self._on_note(f"waiting for a VMM at {self._place()}")
            connection = self._accepted(listener, daemon, stop)
            if connection is None:
                return
            listener.close()  # a second VMM is refused at once, not left waiting
            self._serve(Wire(connection, "the VMM"), daemon, sink, stop)

    def _listening(self) -> contextlib.AbstractContextManager[socket.socket]:
        return _inherited(self._listen) if isinstance(self._listen, int) else _listening(self._listen)

    def _place(self) -> str:
        return f"descriptor {self._listen}" if isinstance(self._listen, int) else _shown(self._listen)

    def _accepted(self, listener: socket.socket, daemon: Wire, stop: threading.Event) -> socket.socket | None:
        while not stop.is_set():
            ready, _, _ = select.select([listener.fileno(), daemon.fileno()], [], [], LOOK_ROUND_S)
            if listener.fileno() in ready:
                return listener.accept()[0]
            if ready:
                raise CaptureError(
                    "the daemon ended before a VMM came", "see what virtiofsd says; it serves one connection only"
                )
        return None

    def _serve(self, vmm: Wire, daemon: Wire, sink: Sink, stop: threading.Event) -> None:
        with ExitStack() as stack:
            recorder = Recorder(sink, lambda: self._describe(session), self._snap_bytes, self._most_waiting)
            stack.callback(recorder.close)
            session = Session(vmm, daemon, recorder, self._on_note)
            stack.callback(session.close)
            self.stats.reason = self._until_it_ends(session, recorder, stop)
            self._on_note(f"the session ended: {self.stats.reason}")

    def _until_it_ends(self, session: Session, recorder: Recorder, stop: threading.Event) -> str:
        stats, unanswered, has_failed = self.stats, 0, False
        try:
            while not stop.is_set():
                session.work(LOOK_ROUND_S)
                stats.messages, stats.lost = recorder.messages, recorder.lost
                if session.unanswered > unanswered:
                    recorder.skipped(session.unanswered - unanswered, "a queue was stopped before the daemon answered")
                    unanswered = session.unanswered
                if recorder.failure is not None and not has_failed:
                    has_failed = True
                    self._on_note(f"nothing more is recorded, but the guest goes on: {recorder.failure}")
        except EOFError as gone:
            return str(gone)
        except Refused as refused:
            recorder.skipped(0, f"the session was ended: {refused}")
            return str(refused)
        return "the capture was stopped"

    def _describe(self, session: Session) -> ChannelInfo:
        tag = printable((self._tag or session.tag).encode("utf-8", "surrogateescape"))
        return ChannelInfo(
            name=f"virtiofs tag {tag}" if tag else f"virtiofs at {self._place()}",
            kind=ChannelKind.VIRTIOFS,
            fstype="virtiofs",
            snap_bytes=self._snap_bytes,
            notes=(DAX_NOTE,),
        )


def _shown(path: Path) -> str:
    return printable(os.fsencode(path), 200)


def _check_length(path: Path) -> None:
    if len(os.fsencode(path)) > UNIX_PATH_BYTES:
        raise CaptureError(f"{_shown(path)} is too long for a socket", f"at most {UNIX_PATH_BYTES} bytes")


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """Listen at a path that is not there yet, and is not any more afterwards."""
    _check_length(path)
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(os.fspath(path))
        except FileExistsError:
            raise _exists(path) from None
        except OSError as error:
            if path.exists():
                raise _exists(path) from None
            raise CaptureError(f"cannot listen at {_shown(path)}: {error.strerror}") from None
        try:
            path.chmod(0o600)
            listener.listen(1)
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _inherited(number: int) -> socket.socket:
    """Return the listening socket that this process was started with."""
    hint = "give the number at which a listening UNIX socket is open, as virtiofsd --fd takes it"
    try:
        listener = socket.socket(fileno=number)
    except OSError as error:
        raise CaptureError(f"descriptor {number} is no socket: {error.strerror}", hint) from None
    if listener.family != socket.AF_UNIX or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()  # it is not ours to close
        raise CaptureError(f"descriptor {number} is no UNIX socket that listens", hint)
    listener.setblocking(True)
    return listener


def _exists(path: Path) -> CaptureError:
    return CaptureError(f"{_shown(path)} exists already", "remove it, or name another path and give it to the VMM")


def _connected(path: Path) -> socket.socket:
    _check_length(path)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(os.fspath(path))
    except OSError as error:
        connection.close()
        hint = f"start virtiofsd first: virtiofsd --socket-path={_shown(path)} ..."
        raise CaptureError(f"no daemon at {_shown(path)}: {error.strerror}", hint) from None
    return connection
