"""Many blocks of a mapped file at once: where packets follow one another, and their first words side by side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tracer.store.prefix import FUSE_AT, TAGS, TAGS_AT

Words = npt.NDArray[np.uint32]
Positions = npt.NDArray[np.int64]

MIN_BLOCK, MAX_BLOCK = 12, 1 << 30
WINDOW = 1 << 18  # words searched at once: what fits the processor's cache
HEAD_WORDS = (FUSE_AT + 36) // 4  # the block's header, tags and prefix, and fuse_in_header up to the pid
_HEAD = np.dtype((np.void, HEAD_WORDS * 4))
_TAG, _TAG_AT = np.frombuffer(TAGS, dtype="<u4")[0], TAGS_AT // 4


def packets_from(words: Words, begin: int, limit: int) -> Positions:
    """Return packets that follow one another from word `begin` on, at most `limit`; none when no packet is there.

    All our packets carry the same tags, so a search proposes where they begin. What blocks say of their lengths proves
    it: both must agree, and each must end where the next begins. Content that looks like tags only ends the run early.
    """
    window = words[begin + _TAG_AT : begin + _TAG_AT + WINDOW]
    if not len(window) or window[0] != _TAG:
        return np.empty(0, np.int64)
    at: Positions = np.flatnonzero(window == _TAG)[:limit] + begin
    total = words[at + 1]
    following = at + (total >> 2)
    is_block = (total >= MIN_BLOCK) & (total <= MAX_BLOCK) & (total & 3 == 0) & (following <= len(words))
    is_block &= words[np.where(is_block, following - 1, 0)] == total
    is_linked = is_block[:-1] & (following[:-1] == at[1:])
    breaks = np.flatnonzero(~is_linked)
    last = int(breaks[0]) if len(breaks) else len(at) - 1
    return at[: last + 1] if is_block[last] else at[:last]


def heads(words: Words, at: Positions) -> Words:
    """Return the first HEAD_WORDS words of blocks, a row each; what lies past the end of the file reads as 0.

    One copy of a whole row costs as much as reading a single word of it, since both fetch it from memory.
    """
    last = len(words) - HEAD_WORDS
    whole = int(np.searchsorted(at, last, side="right"))
    # A row may begin at every word, so they overlap: nothing is copied before it is asked for.
    overlapping = np.ndarray((max(0, last + 1),), _HEAD, words, strides=(4,))
    rows: Words = overlapping[at[:whole]].view(np.uint32).reshape(whole, HEAD_WORDS)
    if whole == len(at):
        return rows
    rest = np.zeros((len(at) - whole, HEAD_WORDS), dtype=np.uint32)
    for row, start in zip(rest, at[whole:].tolist(), strict=True):
        piece = words[start : start + HEAD_WORDS]
        row[: len(piece)] = piece
    return np.concatenate([rows, rest])
