"""From packets in the file to rows of the index: every fact is gathered for a whole scan at once."""

from __future__ import annotations

import numpy as np

from dissectors.opcodes import OPS
from tracer.records import Direction, RecordFlag
from tracer.store.blocks import Words
from tracer.store.prefix import FUSE_AT, OVERHEAD, PREFIX_AT
from tracer.store.reader import Packets, TraceFile
from tracer.trace.columns import BIG_ENDIAN, UNPAIRABLE, Array, Kind, Rows, Table

# Word offsets from the start of a packet block: of the prefix (store.prefix), of fuse_in_header and fuse_out_header.
T_HIGH, T_LOW, CAPTURED = 3, 4, 5
PREFIX = PREFIX_AT // 4
FLAGS, WIRE_LEN, SERVER_PID, SERVER_TID, COMM, RESULT = (PREFIX + n for n in (2, 3, 4, 5, 6, 10))
FUSE = FUSE_AT // 4
LEN, OPCODE, ERROR, UNIQUE, NODEID, UID, GID, PID = (FUSE + n for n in (0, 1, 1, 2, 4, 6, 7, 8))

ENOUGH_FOR_UNIQUE, ENOUGH_FOR_NODEID, ENOUGH_FOR_PID = 16, 24, 36
EINVAL = 22


class Gather:
    """Reads one 32-bit word of every packet of a scan; a word past the end of the file reads as 0."""

    def __init__(self, words: Words, at: Rows) -> None:
        self._words, self._at = words, at
        self._safe = not len(at) or int(at.max()) + PID < len(words)

    def __call__(self, offset: int) -> Words:
        """Return the word at `offset` of each packet."""
        if self._safe:
            return self._words[self._at + offset]
        where = self._at + offset
        inside = where < len(self._words)
        return np.where(inside, self._words[np.where(inside, where, 0)], 0).astype(np.uint32)

    def wide(self, offset: int, swapped: Array | None) -> Array:
        """Return the 64-bit value whose bytes begin at word `offset`."""
        low, high = self(offset).astype(np.uint64), self(offset + 1).astype(np.uint64)
        value: Array = low | high << np.uint64(32)
        if swapped is not None:
            value[swapped] = value[swapped].byteswap()
        return value

    def narrow(self, offset: int, swapped: Array | None) -> Words:
        """Return the 32-bit value at word `offset`."""
        value = self(offset)
        if swapped is not None:
            value[swapped] = value[swapped].byteswap()
        return value


def append(table: Table, file: TraceFile, packets: Packets, orders: dict[int, bool]) -> slice:
    """Append a row for each packet; return the new rows. `orders` remembers which channels are big endian."""
    take = Gather(file.words, packets.at)
    new = table.extend(len(packets.at))
    kept = take(CAPTURED) - OVERHEAD
    swapped = _swapped(take, packets, kept, orders)
    to_kernel = (take(PREFIX) >> 16) & 0xFF == Direction.TO_KERNEL
    flags = take(FLAGS)

    table["at"][new] = packets.at * 4 + FUSE_AT
    table["t_ns"][new] = take(T_HIGH).astype(np.int64) << 32 | take(T_LOW)
    table["kept"][new] = kept
    table["wire_len"][new] = np.maximum(take(WIRE_LEN), kept)
    table["channel"][new] = packets.channel
    table["flags"][new] = flags & 0xFFFF
    table["mate"][new] = -1
    table["submount"][new] = -1

    unique = take.wide(UNIQUE, swapped)
    unique[kept < ENOUGH_FOR_UNIQUE] = 0
    code = take.narrow(OPCODE, swapped).view(np.int32)
    code[kept < 8] = -1
    kind = np.where(to_kernel, Kind.REPLY, Kind.REQUEST).astype(np.uint8)
    kind[to_kernel & (unique == 0) & (kept >= ENOUGH_FOR_UNIQUE)] = Kind.NOTIFICATION
    is_reply, is_request = kind == Kind.REPLY, kind == Kind.REQUEST
    table["unique"][new] = unique
    table["kind"][new] = kind
    table["opcode"][new] = np.where(is_reply, -1, code)
    table["error"][new] = np.where(is_reply & (kept >= 8), code, 0)

    nodeid = take.wide(NODEID, swapped)
    nodeid[~is_request | (kept < ENOUGH_FOR_NODEID)] = 0
    table["nodeid"][new] = nodeid
    pid = take.narrow(PID, swapped)
    pid[~is_request | (kept < ENOUGH_FOR_PID)] = 0
    table["pid"][new] = pid

    bits = np.where(kept < ENOUGH_FOR_UNIQUE, UNPAIRABLE, np.uint8(0))
    refused = np.flatnonzero(flags & RecordFlag.REJECTED)
    if len(refused):
        bits[refused[~_ends_its_request(take, refused, swapped, table, new)]] |= UNPAIRABLE
    if swapped is not None:
        bits[swapped] |= BIG_ENDIAN
    table["bits"][new] = bits
    return new


def _ends_its_request(take: Gather, refused: Rows, swapped: Array | None, table: Table, new: slice) -> Array:
    """Tell which refused writes finish their request all the same: the kernel found it, and gives the caller EIO.

    fuse_dev_do_write() looks the request up only when length and error are sane; then a body that is too long, or one
    beside an error, makes the write fail with EINVAL and the request end with EIO.
    """
    length = take.narrow(LEN, swapped)[refused]
    error = table["error"][new][refused]
    result = take(RESULT).view(np.int32)[refused]
    sane: Array = (length == table["wire_len"][new][refused]) & (error <= 0) & (error > -512)
    sane &= result == -EINVAL
    return sane


def _swapped(take: Gather, packets: Packets, kept: Words, orders: dict[int, bool]) -> Array | None:
    """Find the records of big-endian channels: a channel's first whole header tells (its length field)."""
    present = np.unique(packets.channel)
    for channel in present[[int(channel) not in orders for channel in present]].tolist():
        first = np.flatnonzero((packets.channel == channel) & (kept >= 8))
        if len(first):
            word, code, wire = (int(take(offset)[first[0]]) for offset in (LEN, OPCODE, WIRE_LEN))
            orders[channel] = _is_big(word, code, wire)
    big = [channel for channel, is_big in orders.items() if is_big]
    return np.isin(packets.channel, big) if big else None


def _is_big(length: int, code: int, wire_len: int) -> bool:
    """Guess the byte order of a message by its length field, then by its opcode or error."""
    as_big = int.from_bytes(length.to_bytes(4, "little"), "big")
    if length == wire_len:
        return False
    if as_big == wire_len:
        return True
    return code not in OPS and int.from_bytes(code.to_bytes(4, "little"), "big") in OPS
