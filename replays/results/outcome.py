"""What a replay came to, kept in the live trace itself: one file is enough to open both columns later.

It stands at the end of the file, in comments of interface statistics: other pcapng tools pass over it, and a copy made
by one of them lacks it. The last comment is the head: it names the recording, by its path and by what is in it, and
says how many differences the others hold. A replay that was killed has no head, so nothing half told is taken for all.

Values are kept as the texts a person reads: those of a READ may be a megabyte, and both traces hold them anyway.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from dissectors.text import escape
from replays.judging.rules import RULES
from replays.report import NONE, Difference, ReplayReport
from replays.results.value_text import difference_texts
from tracer.errors import TraceFileError, TracerError
from tracer.store.metadata import encoded, read_json
from tracer.store.pcapng import MAX_OPTION
from tracer.store.remarks import remarks
from tracer.store.writer import TraceWriter

MARK = b"fusewire replay "
VERSION = 1
HEAD, DIFFERENCES, SKIPS, REPORT = "head", "differences", "skips", "report"
MOST_DIFFERENCES = 100_000
MOST_PARTS = 2048  # comments read, of 64 KiB each
MOST_TEXT, MOST_NAME = 300, 64  # characters kept of a value, and of a rule's or field's name
MOST_LINES, MOST_LINE = 2000, 400  # of the report as text
ROOM = MAX_OPTION - 1024  # of a comment, for what it lists
PIECES, PIECE_BYTES = 256, 4096  # read of a recording to know it again
ALONE = "to see it alone: fusewire open --alone FILE"
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class KeptDifference:
    """A Difference as it is kept: what either side said is text, safe to show."""

    exchange: int  # in the recording; NONE: an answer to nothing
    live_exchange: int  # NONE: nothing was sent, or it is about several
    path: str  # of what differs: in a listing, of the entry; empty where unknown
    rule: str
    field: str
    recorded: str
    live: str
    follower_of: int | None

    @property
    def reason(self) -> str:
        """Why it matters, from the table of rules."""
        rule = RULES.get(self.rule)
        return rule.reason if rule is not None else "a rule that this version does not know"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a recording is known by: its size, and the SHA-256 of pieces from all over it."""

    size: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Read it; a file of a megabyte or less is read whole. TraceFileError when it cannot be."""
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.sha256()
                for at in _pieces(size):
                    file.seek(at)
                    digest.update(file.read(PIECE_BYTES))
        except OSError as error:
            raise TraceFileError(f"cannot read {path}: {error.strerror}", "give the name of a trace") from error
        return cls(size, digest.hexdigest())


def _pieces(size: int) -> Iterable[int]:
    """Return where to read: everything of a small file, of a large one both ends and as much in between."""
    if size <= PIECES * PIECE_BYTES:
        return range(0, size, PIECE_BYTES)
    return (number * (size - PIECE_BYTES) // (PIECES - 1) for number in range(PIECES))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A replay as its live trace tells of it. Texts are safe to show, except the places."""

    places: tuple[Path, ...]  # where the recording may lie, the likeliest first
    recorded: Fingerprint
    transport: str
    stopped: str
    differences: tuple[KeptDifference, ...]
    skips: Mapping[str, Ranges]  # name of a reasons.Skip -> first and last recorded exchanges
    report: tuple[str, ...] = field(default=())  # the whole report, as text


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(report: ReplayReport, recorded: Path, sink: TraceWriter, text: Iterable[str] = ()) -> None:
    """Keep what a replay of `recorded` came to at the end of its live trace, which is still open.

    `text` is the report as a person reads it, a line each. TraceFileError when the recording cannot be read, or the
    disk is full.
    """
    kept = report.differences[:MOST_DIFFERENCES]
    known = Fingerprint.of(recorded)
    head: dict[str, object] = {
        "part": HEAD,
        "version": VERSION,
        "recorded": os.path.relpath(recorded.absolute(), sink.path.absolute().parent),
        "recorded_at": str(recorded.absolute()),
        "size": known.size,
        "digest": known.digest,
        "transport": report.transport,
        "stopped": report.stopped[:MOST_TEXT],
        "count": len(kept),
    }
    comments = [
        *_parts(DIFFERENCES, (_row(one) for one in map(_kept, kept, map(difference_texts, kept)))),
        *_parts(SKIPS, ([name, *ends] for name, where in report.skips.items() for ends in _ranges(where))),
        *_parts(REPORT, ([line[:MOST_LINE]] for line, _ in zip(text, range(MOST_LINES), strict=False))),
    ]
    sentence = f"replay of {escape(os.fsencode(recorded.name))}: {len(report.firsts)} first differences"
    sink.remarks([*comments, f"{sentence}\n".encode() + MARK + encoded(head)])


def _kept(difference: Difference, texts: tuple[str, str]) -> KeptDifference:
    recorded, live = (text[:MOST_TEXT] for text in texts)
    return KeptDifference(
        difference.exchange,
        difference.live_exchange,
        escape(difference.path or b"", MOST_TEXT),
        difference.rule,
        difference.field,
        recorded,
        live,
        difference.follower_of,
    )


def _row(one: KeptDifference) -> list[object]:
    return [one.exchange, one.live_exchange, one.path, one.rule, one.field, one.recorded, one.live, one.follower_of]


def _ranges(exchanges: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield runs of numbers that follow each other, as first and last."""
    numbers = np.unique(np.asarray(exchanges, dtype=np.int64))
    if not len(numbers):
        return
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    firsts, lasts = numbers[np.r_[0, breaks + 1]], numbers[np.r_[breaks, len(numbers) - 1]]
    yield from zip(firsts.tolist(), lasts.tolist(), strict=True)


def _parts(part: str, rows: Iterable[list[Any]]) -> Iterator[bytes]:
    """Yield comments that hold the rows, as many in each as fit."""
    held: list[list[Any]] = []
    size = 0
    for row in rows:
        length = len(encoded({"": row}))
        if held and size + length > ROOM:
            yield MARK + encoded({"part": part, "rows": held})
            held, size = [], 0
        held.append(row)
        size += length
    if held:
        yield MARK + encoded({"part": part, "rows": held})


# ---- reading ---------------------------------------------------------------------------------------------------------


def read(live: Path) -> Outcome | None:
    """Return what a replay kept in its live trace; None of any other trace, and of a replay that was killed.

    TracerError when the file cannot be read, or holds an outcome that a newer fusewire wrote, or a damaged one.
    """
    said = _said(live)
    head = next(said, None)
    if head is None or head.get("part") != HEAD:
        return None
    found: dict[str, list[list[Any]]] = {DIFFERENCES: [], SKIPS: [], REPORT: []}
    for values in islice(said, MOST_PARTS):
        part, rows = values.get("part"), values.get("rows")
        if isinstance(part, str) and part in found and isinstance(rows, list):
            found[part].append(rows)
    return _outcome(live, head, {part: list(chain(*reversed(pieces))) for part, pieces in found.items()})


def _said(live: Path) -> Iterator[dict[str, Any]]:
    """Yield what the comments at the end hold, the last one first."""
    for comment in remarks(live):
        # The last line: before the head there is a sentence.
        values = read_json(comment[comment.rfind(b"\n") + 1 :], MARK)
        if values is not None:
            yield values


def _outcome(live: Path, head: dict[str, Any], found: Mapping[str, list[Any]]) -> Outcome:
    if type(head.get("version")) is int and head["version"] > VERSION:
        raise TraceFileError(f"the replay in {live} was kept by a newer fusewire", f"update fusewire, or {ALONE}")
    texts = {name: head.get(name) for name in ("recorded", "recorded_at", "digest", "transport", "stopped")}
    differences = tuple(one for one in map(_difference, found[DIFFERENCES][:MOST_DIFFERENCES]) if one is not None)
    is_sound = all(isinstance(text, str) and "\0" not in text for text in texts.values())
    if not is_sound or not _is_number(head.get("size")) or head.get("count") != len(differences):
        raise TraceFileError(f"what {live} tells of its replay is damaged", f"replay again, or {ALONE}")
    places = (live.absolute().parent / str(texts["recorded"]), Path(str(texts["recorded_at"])))
    return Outcome(
        tuple(dict.fromkeys(Path(os.path.normpath(place)) for place in places)),
        Fingerprint(head["size"], str(texts["digest"])),
        _text(str(texts["transport"])),
        _text(str(texts["stopped"])),
        differences,
        _skips(found[SKIPS]),
        tuple(_text(str(row[0]), MOST_LINE) for row in found[REPORT][:MOST_LINES] if isinstance(row, list) and row),
    )


def _is_number(value: object, least: int = 0) -> bool:
    return type(value) is int and least <= value < 1 << 62


def _difference(row: object) -> KeptDifference | None:
    if not isinstance(row, list) or len(row) != 8:
        return None
    exchange, live_exchange, path, rule, name, recorded, live, follower_of = row
    are_numbers = _is_number(exchange, NONE) and _is_number(live_exchange, NONE)
    if not are_numbers or not (follower_of is None or _is_number(follower_of)):
        return None
    if not all(isinstance(text, str) for text in (path, rule, name, recorded, live)):
        return None
    names = _text(path), _text(rule, MOST_NAME), _text(name, MOST_NAME)
    return KeptDifference(exchange, live_exchange, *names, _text(recorded), _text(live), follower_of)


def _text(text: str, most: int = MOST_TEXT) -> str:
    """Return what a file says as it may be drawn."""
    return "".join(character if character.isprintable() else "·" for character in text[:most])


def _skips(rows: list[Any]) -> dict[str, Ranges]:
    found: dict[str, list[tuple[int, int]]] = {}
    for row in rows:
        if isinstance(row, list) and len(row) == 3 and isinstance(row[0], str):
            name, first, last = row
            if _is_number(first) and _is_number(last) and first <= last:
                found.setdefault(name[:MOST_NAME], []).append((first, last))
    return {name: tuple(ranges) for name, ranges in found.items()}


def recording_of(live: Path, outcome: Outcome, given: Path | None = None) -> Path:
    """Return where the recording lies that was played; `given` overrules where the replay found it.

    TracerError when it is not there, or another trace stands in its place.
    """
    places = (given,) if given is not None else outcome.places
    there = list(filter(os.path.isfile, places))  # which Path.is_file() refuses to tell of names too long
    for place in there:
        if Fingerprint.of(place) == outcome.recorded:
            return place
    if there:
        raise TracerError(f"{there[0]} is not the recording that {live} was played from", f"give that one, or {ALONE}")
    raise TracerError(
        f"the recording that {live} was played from is not at {places[-1]}",
        f"say where it is: fusewire open RECORDING --with {live}",
    )
