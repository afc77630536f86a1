"""A recorded request as the live session lays it out. The ids in it are still the recorded ones.

Nearly always that is a copy. Where the two sessions agreed on different layouts (another minor, another byte order,
SETXATTR_EXT), the request is taken apart and built again.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from dissectors.flags import init_flag
from dissectors.layout import Context, agreed_layout, appends_context, is_undecided
from dissectors.message import Value
from dissectors.opcodes import OPERATIONS, Op
from dissectors.reference import Refused, build_request, parse_request
from replays.recorded.sites import EXTENSION_AT, UID_AT, request_sites

_U16, _U32, _IDS = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<II")
_EXTENSIONS = init_flag("SECURITY_CTX") | init_flag("CREATE_SUPP_GROUP")
EXTLEN_SINCE = 38


class Encoder:
    """Turns recorded requests into live ones."""

    def __init__(self, recorded: Context, live: Context, uids: Mapping[int, int], gids: Mapping[int, int]) -> None:
        self._recorded, self._live = recorded, live
        self._uids, self._gids = uids, gids
        self._rebuilt = {op.code for op in OPERATIONS if _is_laid_out_anew(op, recorded, live)}
        self._stripped = set() if _takes_extensions(live) else {op.code for op in OPERATIONS if op.extensible}
        changed = self._rebuilt | self._stripped
        self.copied = frozenset(() if uids or gids else {op.code for op in OPERATIONS} - changed)  # sent as they are

    def live(self, op: Op, request: bytes) -> bytearray:
        """Return `request`, whole as it was sent, for the live server. Refused when it is malformed."""
        message = bytearray(self._built_anew(op, request) if op.code in self._rebuilt else request)
        if op.code in self._stripped:
            _strip(message)
        if self._uids or self._gids:
            self._map_users(op, message)
        return message

    def _built_anew(self, op: Op, request: bytes) -> bytes:
        parsed = parse_request(request, self._recorded)
        fields = agreed_layout(op.request, self._live).fields
        values: dict[str, Value] = {field.name: 0 for field in fields if field.kind.is_integer}
        values |= {name: value for name, value in parsed.values.items() if name in {field.name for field in fields}}
        return build_request(parsed.header, op, values, self._live, parsed.extension)

    def _map_users(self, op: Op, message: bytearray) -> None:
        places = [UID_AT]
        head = request_sites(op, self._live)
        layout = agreed_layout(op.request, self._live)
        at = {field.name: place for field, place in zip(layout.head, layout.offsets(), strict=True)}
        if "uid" in at and len(message) >= head.head_size:  # SETATTR: the new owner
            places.append(head.head_size - layout.head_size + at["uid"])
        for place in places:
            uid, gid = _IDS.unpack_from(message, place)
            _IDS.pack_into(message, place, self._uids.get(uid, uid), self._gids.get(gid, gid))


def _is_laid_out_anew(op: Op, recorded: Context, live: Context) -> bool:
    if recorded.big_endian != live.big_endian or is_undecided(op.request, recorded) or appends_context(op, recorded):
        return True
    before, now = agreed_layout(op.request, recorded), agreed_layout(op.request, live)
    return [field.name for field in before.fields] != [field.name for field in now.fields]


def _takes_extensions(live: Context) -> bool:
    return live.effective_minor >= EXTLEN_SINCE and bool((live.init_flags or 0) & _EXTENSIONS)


def _strip(message: bytearray) -> None:
    """Take the extension area away: the live server was not told that there may be one."""
    (extension_words,) = _U16.unpack_from(message, EXTENSION_AT)
    if extension_words:
        del message[max(0, len(message) - 8 * extension_words) :]
        _U16.pack_into(message, EXTENSION_AT, 0)
        _U32.pack_into(message, 0, len(message))


__all__ = ["Encoder", "Refused"]
