"""The index of a large trace, kept beside the user's other caches so that opening it again takes no scan.

Nothing here is needed: an entry that is missing, of another version, damaged or odd is passed over and the trace is
scanned. An entry is one file: a line of JSON about the trace, then the columns. It is mapped, not read, and its numbers
are checked before anything relies on them, since a wrong one would point outside the trace.

FUSEWIRE_NO_CACHE=1 in the environment turns it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np

from tracer.records import Gap
from tracer.store.metadata import channel_comment, gap_comment, read_channel, read_gap
from tracer.store.prefix import FUSE_AT
from tracer.store.reader import TraceFile
from tracer.trace.columns import COLUMNS, Array, Kind, Table

VERSION = 2  # of what an entry holds and means
LEAST_RECORDS = 1_000_000  # fewer are scanned before anybody notices
MOST_BYTES = 4 << 30  # of all entries together; the one used longest ago goes first
SETTLED_S = 10  # a trace written to more recently may be growing still
MAX_HEADER = 64 << 20
ALIGNMENT = 64
SAMPLES = 256  # records of which is looked whether they lie where the entry says
OFF = "FUSEWIRE_NO_CACHE"
_NATIVE = np.dtype(np.int64).str  # tells byte orders apart

Facts = dict[str, Any]


def directory() -> Path:
    """Return where entries are kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "fusewire" / "index"


def load(file: TraceFile, table: Table) -> bool:
    """Fill the empty `table`, and what a scan finds in `file`, from the cache; False when it has nothing to rely on."""
    place = _entry(file)
    if place is None:
        return False
    try:
        found = _read(place)
    except (OSError, ValueError, RecursionError):  # not there, cut short, no JSON or nested without end
        return False
    if found is None or not _holds(file, *found):
        return False
    facts, columns = found
    with contextlib.suppress(OSError):
        os.utime(place)
    table.adopt(columns)
    _restore(file, facts)
    return True


def save(file: TraceFile, table: Table) -> bool:
    """Keep the index of a trace that was scanned to its end; False when it is not worth it, or not possible."""
    place = _entry(file) if table.count >= LEAST_RECORDS and _is_settled(file) else None
    size = table.nbytes
    if place is None or size > MOST_BYTES:
        return False
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(place.parent, size)
        _write(place, _facts(file, table), table)
    except OSError:  # no room, no home: the next one to open it scans again
        return False
    return True


# ---- which entry -----------------------------------------------------------------------------------------------------


def _entry(file: TraceFile) -> Path | None:
    """Return the file that belongs to this very content; None when there is to be none."""
    if os.environ.get(OFF):
        return None
    try:
        seen, place = file.path.stat(), directory()
    except (OSError, RuntimeError):  # the trace was renamed, or nobody knows where the user's home is
        return None
    if seen.st_size != len(file.content):
        return None
    edges = hashlib.sha256(file.content[:4096].tobytes() + file.content[-4096:].tobytes()).hexdigest()
    identity = (VERSION, _NATIVE, COLUMNS, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, edges)
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:40]
    return place / f"{name}.index"


def _is_settled(file: TraceFile) -> bool:
    with contextlib.suppress(OSError):
        return file.finished or time.time() - file.path.stat().st_mtime > SETTLED_S
    return False


def _make_room(place: Path, size: int) -> None:
    """Remove the entries used longest ago until `size` more bytes fit."""
    # Those begun and never finished, by somebody who was killed, are entries like others.
    entries = sorted(((one.stat(), one) for one in place.glob("*.index*")), key=lambda entry: entry[0].st_mtime_ns)
    total = sum(seen.st_size for seen, _ in entries)
    for seen, one in entries:
        if total + size <= MOST_BYTES:
            return
        one.unlink(missing_ok=True)
        total -= seen.st_size


# ---- what is in it ---------------------------------------------------------------------------------------------------


def _facts(file: TraceFile, table: Table) -> Facts:
    return {
        "count": table.count,
        "channels": [channel_comment(info).decode("utf-8", "surrogateescape") for info in file.channels],
        "gaps": [gap_comment(gap).decode("utf-8", "surrogateescape") for gap in file.gaps],
        "gap_channels": [gap.channel for gap in file.gaps],
        "file": file.progress(),
    }


def _restore(file: TraceFile, facts: Facts) -> None:
    file.channels[:] = [read_channel("", [text.encode("utf-8", "surrogateescape")]) for text in facts["channels"]]
    file.gaps[:] = list(_gaps(facts))
    file.go_on_from(facts["file"])


def _gaps(facts: Facts) -> list[Gap]:
    found = [
        read_gap(channel, 0, [text.encode("utf-8", "surrogateescape")])
        for channel, text in zip(facts["gap_channels"], facts["gaps"], strict=True)
    ]
    return [gap for gap in found if gap is not None]


def _write(place: Path, facts: Facts, table: Table) -> None:
    """Write an entry under another name first: whoever reads it finds all of it or nothing."""
    new = place.with_name(f"{place.name}.{os.getpid()}")
    header = json.dumps(facts).encode() + b"\n"
    header += b" " * (-(len(header) + 8) % ALIGNMENT)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as out:
            out.write(len(header).to_bytes(8, "little") + header)
            for name in COLUMNS:
                column = table[name]
                out.write(column.view(np.uint8).data)
                out.write(bytes(-column.nbytes % ALIGNMENT))
        new.rename(place)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _read(place: Path) -> tuple[Facts, dict[str, Array]] | None:
    """Map an entry. OSError or ValueError when there is none, None when its size is not what its header says."""
    fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(fd, "rb") as entry:
        seen = os.fstat(fd)
        # Whoever else can write to it could point anywhere.
        if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o022:
            return None
        length = int.from_bytes(entry.read(8), "little")
        if length > MAX_HEADER:
            return None
        facts = json.loads(entry.read(length))
        at, count = 8 + length, _count(facts)
        # Copied where it is written to (submounts are filled in later); the entry itself stays as it is.
        content = np.memmap(entry, dtype=np.uint8, mode="c")
    columns: dict[str, Array] = {}
    for name, kind in COLUMNS.items():
        size = np.dtype(kind).itemsize * count
        columns[name] = content[at : at + size].view(np.ndarray).view(kind)
        at += size + -size % ALIGNMENT
    return (facts, columns) if at == seen.st_size else None


def _count(facts: Any) -> int:
    if not isinstance(facts, dict) or type(facts.get("count")) is not int or not 0 <= facts["count"] < 1 << 31:
        raise ValueError("no entry of ours")
    return int(facts["count"])


# ---- whether to rely on it -------------------------------------------------------------------------------------------


def _holds(file: TraceFile, facts: Facts, columns: dict[str, Array]) -> bool:
    """Tell whether every number stays inside the trace and the table, and records lie where they should."""
    if not _are_facts(file, facts) or not facts["count"]:
        return False
    at, ends, count = columns["at"], columns["at"] + columns["kept"], facts["count"]
    sound = int(at[0]) >= FUSE_AT and int(at.max()) <= len(file.content) and bool((at[1:] >= ends[:-1]).all())
    sound = sound and int(ends.max()) <= facts["file"]["scanned"]
    sound = sound and int(columns["channel"].max()) < len(facts["channels"])
    sound = sound and int(columns["kind"].max()) <= max(Kind)
    sound = sound and bool((columns["wire_len"] >= columns["kept"]).all() and (columns["submount"] == -1).all())
    return sound and _are_pairs(columns) and file.are_packets(at[:: max(1, count // SAMPLES)])


def _are_facts(file: TraceFile, facts: Facts) -> bool:
    if set(facts) != {"count", "channels", "gaps", "gap_channels", "file"}:
        return False
    channels, gaps, of = facts["channels"], facts["gaps"], facts["gap_channels"]
    if not all(isinstance(one, list) for one in (channels, gaps, of)) or len(gaps) != len(of):
        return False
    are_texts = all(isinstance(one, str) for one in (*channels, *gaps)) and all(type(one) is int for one in of)
    return are_texts and len(_gaps(facts)) == len(gaps) and file.could_go_on_from(facts["file"])


def _are_pairs(columns: dict[str, Array]) -> bool:
    """Tell whether each record that has a mate is a request before its reply, that reply, or a request's delivery."""
    kind, mate = columns["kind"], columns["mate"]
    if int(mate.min()) < -1 or int(mate.max()) >= len(mate):
        return False
    requests = np.flatnonzero((mate >= 0) & (kind == Kind.REQUEST))
    replies = mate[requests]
    sound = (replies > requests) & (kind[replies] == Kind.REPLY) & (mate[replies] == requests)
    taken = np.flatnonzero((mate >= 0) & (kind == Kind.DELIVERY))
    sound_too = (mate[taken] < taken) & (kind[mate[taken]] == Kind.REQUEST)
    return bool(sound.all() and sound_too.all()) and int((mate >= 0).sum()) == 2 * len(requests) + len(taken)
