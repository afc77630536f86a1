"""The logs of both daemons, line for line as they were written."""

from __future__ import annotations

from collections import Counter

from tracer.lab.daemon_log import Answered, Asked, said

C_LOG = """\
[2026-11-26 18:15:18.915951+0000] [ID: 00000004] fv_queue_worker: elem 0: with 2 out desc of length 48
[2026-11-26 18:15:38.310103+0000] [ID: 00000004] unique: 8, opcode: READDIRPLUS (44), nodeid: 1, insize: 80, pid: 129
[2026-11-26 18:15:38.310226+0000] [ID: 00000004]   1/hello -> 2
[2026-11-26 18:15:38.310273+0000] [ID: 00000004]    unique: 8, success, outsize: 496
[2026-11-26 18:15:38.327372+0000] [ID: 00000004] unique: 14, opcode: SYNCFS (50), nodeid: 1, insize: 48, pid: 131
[2026-11-26 18:15:38.327405+0000] [ID: 00000004] lo_do_syncfs(ino=1)
[2026-11-26 18:15:38.327442+0000] [ID: 00000004]    unique: 14, error: -38 (Function not implemented), outsize: 16
[2026-11-26 18:15:38.327447+0000] [ID: 00000003] unique: 15, opcode: FORGET (2), nodeid: 2, insize: 48, pid: 0
"""
RUST_LOG = """\
[2026-11-26T18:17:51Z DEBUG virtiofsd::server] Received request: opcode=Readdirplus (44), inode=1, unique=8, pid=129
[2026-11-26T18:17:51Z DEBUG virtiofsd::server] Replying OK, header: OutHeader { len: 496, error: 0, unique: 8 }
[2026-11-26T18:17:51Z DEBUG virtiofsd::server] Received request: opcode=Syncfs (50), inode=1, unique=14, pid=131
[2026-11-26T18:17:51Z DEBUG virtiofsd::passthrough] syncfs: inode=1, mount_fd=19
[2026-11-26T18:17:51Z DEBUG virtiofsd::server] Replying ERROR, header: OutHeader \
{ error: -38 (Function not implemented), unique: 14, len: 16 }
[2026-11-26T18:17:51Z DEBUG virtiofsd::server] Received request: opcode=Forget (2), inode=2, unique=15, pid=0
"""
ASKED = Counter([Asked(8, 44, 1), Asked(14, 50, 1), Asked(15, 2, 2)])
ANSWERED = Counter([Answered(8, 0, 496), Answered(14, -38, 16)])


def test_the_daemon_in_c_says_what_it_was_asked_and_how_it_answered() -> None:
    report = said("c", C_LOG)
    assert (report.asked, report.answered) == (ASKED, ANSWERED)


def test_the_daemon_in_rust_says_the_same() -> None:
    report = said("rust", RUST_LOG)
    assert (report.asked, report.answered) == (ASKED, ANSWERED)


def test_a_request_that_is_named_twice_counts_twice() -> None:
    assert said("c", C_LOG + C_LOG).asked[Asked(14, 50, 1)] == 2
