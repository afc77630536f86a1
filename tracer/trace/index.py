"""From packets in the file to rows of the index: every fact is gathered for a whole scan at once."""

from __future__ import annotations

import numpy as np

from dissectors.opcodes import OPS
from tracer.records import Direction, RecordFlag
from tracer.store.blocks import Words
from tracer.store.prefix import FUSE_AT, OVERHEAD, PREFIX_AT
from tracer.store.reader import CAPTURED, Packets, TraceFile
from tracer.trace.columns import BIG_ENDIAN, UNPAIRABLE, Array, Kind, Rows, Table, distinct

# Word offsets from the start of a packet block: of the prefix (store.prefix), of fuse_in_header and fuse_out_header.
T_HIGH, T_LOW = 3, 4
PREFIX = PREFIX_AT // 4
DIRECTION_BYTE = PREFIX_AT + 2
FLAGS, WIRE_LEN, SERVER_PID, SERVER_TID, COMM, RESULT, DESC_HEAD = (PREFIX + n for n in (2, 3, 4, 5, 6, 10, 11))
BRIDGE_SHIFT = 24  # in the first word
FUSE = FUSE_AT // 4
LEN, OPCODE, ERROR, UNIQUE, NODEID, UID, GID, PID = (FUSE + n for n in (0, 1, 1, 2, 4, 6, 7, 8))

ENOUGH_FOR_CODE, ENOUGH_FOR_UNIQUE, ENOUGH_FOR_NODEID, ENOUGH_FOR_PID = 8, 16, 24, 36
EINVAL = 22
AT_ONCE = 1 << 14  # packets whose heads fit the processor's cache


def append(table: Table, file: TraceFile, packets: Packets, orders: dict[int, bool]) -> slice:
    """Append a row for each packet; return the new rows. `orders` remembers which channels are big endian."""
    _learn_orders(packets, orders)
    big = [channel for channel, is_big in orders.items() if is_big]
    if not table.count:
        table.reserve(_expected(file, len(packets.at)))
    new = table.extend(len(packets.at))
    for start in range(0, len(packets.at), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        part = Packets(packets.at[some], packets.channel[some], packets.heads[some])
        swapped = np.isin(part.channel, big) if big else None
        _fill(table, slice(new.start + start, new.start + start + len(part.at)), part, swapped)
    return new


def _expected(file: TraceFile, count: int) -> int:
    """Guess how many packets a file holds, when `count` of them were in what was scanned so far."""
    rest = len(file.content) - file.scanned
    return count + min(rest // (FUSE_AT + 4), rest * count // file.scanned * 17 // 16)


def _fill(table: Table, new: slice, packets: Packets, swapped: Array | None) -> None:
    heads = packets.heads
    kept = heads[:, CAPTURED] - OVERHEAD
    flags = heads[:, FLAGS]
    table["at"][new] = packets.at * 4 + FUSE_AT
    table["t_ns"][new] = heads[:, T_HIGH].astype(np.int64) << 32 | heads[:, T_LOW]
    table["kept"][new] = kept
    table["wire_len"][new] = np.maximum(heads[:, WIRE_LEN], kept)
    table["channel"][new] = packets.channel
    table["flags"][new] = flags & 0xFFFF
    table["mate"][new] = -1
    table["submount"][new] = -1

    is_reply = heads.view(np.uint8)[:, DIRECTION_BYTE] == Direction.TO_KERNEL
    unique, code = _wide(heads, UNIQUE, swapped), _narrow(heads, OPCODE, swapped).view(np.int32)
    bits = np.zeros(len(kept), np.uint8)
    if int(kept.min(initial=ENOUGH_FOR_UNIQUE)) < ENOUGH_FOR_UNIQUE:
        unique[kept < ENOUGH_FOR_UNIQUE] = 0
        bits[kept < ENOUGH_FOR_UNIQUE] = UNPAIRABLE
        code[kept < ENOUGH_FOR_CODE] = -1
    is_unasked = is_reply & (unique == 0) & (bits == 0)
    table["unique"][new] = unique
    kind = table["kind"][new]
    kind[:] = is_reply  # REQUEST and REPLY are 0 and 1
    kind[is_unasked] = Kind.NOTIFICATION
    kind[(flags & RecordFlag.DELIVERED) != 0] = Kind.DELIVERY
    table["opcode"][new] = np.where(is_reply & ~is_unasked, np.int32(-1), code)
    table["error"][new] = np.where(is_reply & ~is_unasked & (kept >= ENOUGH_FOR_CODE), code, np.int32(0))
    has_nodeid, has_pid = ~is_reply & (kept >= ENOUGH_FOR_NODEID), ~is_reply & (kept >= ENOUGH_FOR_PID)
    table["nodeid"][new] = np.where(has_nodeid, _wide(heads, NODEID, swapped), np.uint64(0))
    table["pid"][new] = np.where(has_pid, _narrow(heads, PID, swapped), np.uint32(0))

    refused = np.flatnonzero(flags & RecordFlag.REJECTED)
    if len(refused):
        bits[refused[~_ends_its_request(heads, refused, swapped, table, new)]] |= UNPAIRABLE
    if swapped is not None:
        bits[swapped] |= BIG_ENDIAN
    table["bits"][new] = bits


def _wide(heads: Words, offset: int, swapped: Array | None) -> Array:
    """Return the 64-bit value whose bytes begin at word `offset` of each head."""
    value: Array = heads[:, offset : offset + 2].copy().view(np.uint64)[:, 0]
    if swapped is not None:
        value[swapped] = value[swapped].byteswap()
    return value


def _narrow(heads: Words, offset: int, swapped: Array | None) -> Words:
    """Return the 32-bit value at word `offset` of each head."""
    value: Words = heads[:, offset].copy()
    if swapped is not None:
        value[swapped] = value[swapped].byteswap()
    return value


def _ends_its_request(heads: Words, refused: Rows, swapped: Array | None, table: Table, new: slice) -> Array:
    """Tell which refused writes finish their request all the same: the kernel found it, and gives the caller EIO.

    fuse_dev_do_write() looks the request up only when length and error are sane; then a body that is too long, or one
    beside an error, makes the write fail with EINVAL and the request end with EIO.
    """
    length = _narrow(heads, LEN, swapped)[refused]
    error = table["error"][new][refused]
    result = heads[refused, RESULT].view(np.int32)
    sane: Array = (length == table["wire_len"][new][refused]) & (error <= 0) & (error > -512)
    sane &= result == -EINVAL
    return sane


def _learn_orders(packets: Packets, orders: dict[int, bool]) -> None:
    """Tell the byte order of channels not met before: a channel's first whole header shows it (its length field)."""
    for channel in distinct(packets.channel):
        if channel in orders:
            continue
        whole = packets.heads[:, CAPTURED] - OVERHEAD >= ENOUGH_FOR_CODE
        first = np.flatnonzero((packets.channel == channel) & whole)[:1]
        for word, code, wire in packets.heads[first][:, (LEN, OPCODE, WIRE_LEN)].tolist():
            orders[channel] = _is_big(word, code, wire)


def known_orders(table: Table) -> dict[int, bool]:
    """Return which channels are big endian, of those that a whole header told it of."""
    told = table["channel"][table["kept"] >= ENOUGH_FOR_CODE]
    big = set(distinct(table["channel"][(table["bits"] & BIG_ENDIAN) != 0]))
    return {channel: channel in big for channel in distinct(told)}


def _is_big(length: int, code: int, wire_len: int) -> bool:
    """Guess the byte order of a message by its length field, then by its opcode or error."""
    as_big = int.from_bytes(length.to_bytes(4, "little"), "big")
    if length == wire_len:
        return False
    if as_big == wire_len:
        return True
    return code not in OPS and int.from_bytes(code.to_bytes(4, "little"), "big") in OPS
