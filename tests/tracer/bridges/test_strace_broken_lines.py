"""Lines that strace breaks in two where it should not."""

import threading
from pathlib import Path

from tests.tracer.bridges.collecting import Collected
from tracer.bridges.strace import StraceLog

# strace 6.1 with -e status=!detached, as it printed it when thread 7233 ended between the two halves of a read.
BROKEN_OFF_BY_AN_EXIT = rb"""
7233  1795370163.392262590 +++ exited with 0 +++
7217  1795370163.390905414 read(4</dev/fuse<char 10:229>>,  <unfinished ...>
"0\0\0\0\"\0\0\0~\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0B\34\0\0\0\0\0\0\1\0\0\0\0\0\0\0", 139264) = 48 <0.003954964>
7217  1795370163.394939901 write(4</dev/fuse<char 10:229>>, "\20\0\0\0\0\0\0\0~\0\0\0\0\0\0\0", 16) = 16 <0.000007980>
"""  # noqa: E501 - the lines are strace's


def test_a_read_that_another_threads_exit_broke_off_is_joined_to_its_bare_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(BROKEN_OFF_BY_AN_EXIT.lstrip())
    sink = Collected()

    StraceLog(log).run(sink, threading.Event())

    request, reply = sink.all
    assert (request.wire_len, request.data[4], request.server_tid) == (48, 34, 7217)
    assert request.t_ns == 1795370163_390905414 + 3954964  # it arrived when the call returned
    assert reply.data[8:16] == request.data[8:16]
    assert not sink.gaps
