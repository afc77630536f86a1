"""What the thread of the rings copies comes out of the recorder whole, in order, in a bounded space."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tests.tracer.bridges.collecting import Collected
from tracer.bridges.vhost_user.recorder import Recorder
from tracer.records import ChannelInfo, Direction, RawRecord

TO_SERVER, TO_KERNEL = Direction.TO_SERVER, Direction.TO_KERNEL


class Stopped(Collected):
    """A disk that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def records(self, batch: Sequence[RawRecord]) -> None:
        assert self.go_on.wait(20)
        super().records(batch)


def test_messages_of_all_lengths_come_out_as_they_went_in_also_those_longer_than_the_space_set_aside() -> None:
    collected = Collected()
    recorder = Recorder(collected, lambda: ChannelInfo("v"), snap_bytes=0)
    lengths = [16, 0, 40, 1 << 20, 9 << 20, 17, *[48] * 20_000, 5 << 20]
    for number, length in enumerate(lengths):
        piece = memoryview(bytes([number % 251]) * length)
        recorder.take(number % 2, number % 3, number, [piece[: length // 2], piece[length // 2 :]], length, length, 0)
    recorder.close()
    assert recorder.messages == len(collected.all) == len(lengths)
    assert not collected.gaps
    for number, (record, length) in enumerate(zip(collected.all, lengths, strict=True)):
        assert record.data == bytes([number % 251]) * length
        assert record.wire_len == length
        assert (record.queue, record.desc_head) == (number % 3, number)
        assert record.direction is (TO_KERNEL if number % 2 else TO_SERVER)


def test_what_a_stopped_disk_leaves_no_room_for_is_counted_and_the_rest_is_kept() -> None:
    collected = Stopped()
    recorder = Recorder(collected, lambda: ChannelInfo("v"), snap_bytes=0, most_waiting=100_000)
    for number in range(100):
        recorder.take(TO_SERVER, 1, number, [memoryview(bytes(5000))], 5000, 5000, 0)
    collected.go_on.set()
    recorder.close()
    assert len(collected.all) + recorder.lost == 100
    assert len(collected.all) == 100_000 // (5000 + 36)
    assert [gap.count for gap in collected.gaps] == [recorder.lost]
    assert "slower than the guest" in collected.gaps[0].reason
