"""Files of one recording, numbered: NAME_00001_20261122195300.pcapng; the oldest go when there are too many."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tracer.errors import TraceFileError
from tracer.records import ChannelInfo
from tracer.store.writer import TraceWriter


class Series:
    """Begins one file after another. `path` is what the user gave: number and local time go before its suffix.

    Numbers go on after those of an earlier recording of that name, whose files stay: `keep` counts only our own.
    """

    def __init__(self, path: Path, *, keep: int = 0, command: str = "") -> None:
        """`keep` 0 keeps all."""
        self.path = path
        self.count = 0  # of files begun
        self.kept: deque[Path] = deque()
        self._keep, self._command = keep, command
        self._number = max(_numbers(path), default=0)

    def begin(self, channels: Sequence[ChannelInfo], begin_ns: int) -> TraceWriter:
        """Begin the next file, at this time since the epoch. It appears under its name when its channels are in it.

        Raises TraceFileError when there is no room, or no permission.
        """
        self._number += 1
        path = self._named(self._number, begin_ns)
        hidden = path.with_name(f".{path.name}.new")
        writer = None
        try:
            hidden.unlink(missing_ok=True)
            writer = TraceWriter(hidden, command=self._command, overwrite=False)
            for info in channels:
                writer.channel(info)
            hidden.rename(path)
        except (OSError, TraceFileError) as error:
            if writer is not None:
                writer.discard()
            hidden.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) else error.message
            hint = "" if isinstance(error, OSError) else error.hint
            complete = "; the files before it are complete" if self.count else ""
            raise TraceFileError(f"{path} cannot be begun: {reason}{complete}", hint) from error
        writer.path = path
        self.count += 1
        self.kept.append(path)
        return writer

    def make_room(self) -> None:
        """Remove the oldest files, so that there are not too many once another has begun."""
        while self._keep and len(self.kept) >= self._keep:
            self.kept.popleft().unlink(missing_ok=True)

    def _named(self, number: int, begin_ns: int) -> Path:
        try:
            moment = f"{datetime.fromtimestamp(begin_ns // 10**9).astimezone():%Y%m%d%H%M%S}"
        except (OverflowError, OSError, ValueError):  # the records' clock is beyond the calendar
            moment = "0" * 14
        return self.path.with_name(f"{self.path.stem}_{number:05d}_{moment}{self.path.suffix}")


def _numbers(path: Path) -> list[int]:
    """Return the numbers of the files that are there already."""
    name = re.compile(re.escape(path.stem) + r"_(\d{5,9})_\d{14}" + re.escape(path.suffix))
    try:
        found = [name.fullmatch(entry.name) for entry in path.parent.iterdir()]
    except OSError:
        return []
    return [int(match[1]) for match in found if match]
