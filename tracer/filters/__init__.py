"""The filter language: Wireshark's display filter syntax over exchanges, compiled to column expressions.

A filter asks about exchanges, request and reply together. Its fields are those of `dissectors.catalog`:

    fuse.opcode == SYNCFS && fuse.nodeid in {1, 5, 10..20}      names, sets and ranges (both ends belong to them)
    fuse.latency > 10ms || fuse.write.size >= 64KiB             units; K, M, G mean 1024, kB, MB, GB 1000
    fuse.pending_for > 5s                                       asked, and not answered for so long
    fuse.error == ENOENT                                        the same as 2 and as -2
    fuse.open.flags & TRUNC|APPEND                              one of these flags is set; == is the whole value
    (fuse.open.flags & 3) == RDWR                               a part of the value
    fuse.path matches "^/mnt1/" && fuse.name contains "tmp"     text: == != in contains matches (or ~)
    fuse.time >= "2026-01-02T03:04:05Z"                         without Z local time
    fuse.time > 1.5s                                            since the first record
    fuse.write, fuse.write.reply, fuse.notify.inval_entry       there is such a message; the reply has no error
    fuse.latency, !fuse.malformed                               there is such a value; it is not true

and, or, not are words for && || !; eq ne lt le gt ge for the signs. A comparison is false where the exchange lacks the
field, and so is !=: `fuse.error != OK` passes only what was answered, `!(fuse.error == OK)` also what was not. Where a
message has a field several times (entries of a listing), one that passes is enough; of != all must differ.

Unlike Wireshark, `matches` tells upper from lower case, as file names do ((?i) at the start: it does not), and knows no
look-around and no references back: it takes time linear in the text, whoever chose that. It looks at the first 4096
bytes of a value.
"""

from tracer.filters.completion import Completion, complete
from tracer.filters.errors import FilterError
from tracer.filters.filter import Filter, compile_filter

__all__ = ["Completion", "Filter", "FilterError", "compile_filter", "complete"]
