"""One VMM and its daemon: control messages pass through, except those that name rings."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from tracer.bridges.vhost_user import features, memory
from tracer.bridges.vhost_user.failures import Refused
from tracer.bridges.vhost_user.messages import (
    ADDRESS,
    CONFIG,
    NEED_REPLY,
    SHAPES,
    SINGLE_REGION,
    STATE,
    U64,
    VERSION,
    Message,
    Request,
    Wire,
    checked_request,
    u64_of,
)
from tracer.bridges.vhost_user.queues import Queue, event_of, quiet, replaced
from tracer.bridges.vhost_user.shadow import MAX_QUEUES, Overhearing, Shadow, ShadowMemory
from tracer.bridges.vhost_user.vring import check_size

TABLE_REGIONS: Final = 8  # what every daemon takes in one SET_MEM_TABLE
STOP_WAIT_S: Final = 1.0  # for requests that a daemon has and answers after it said where it stopped
_LOG_FLAG: Final = 1
_RUNG: Final = select.EPOLLIN | select.EPOLLET  # an eventfd tells each time it is rung, and need not be read
_TAG: Final = 36  # bytes of struct virtio_fs_config before num_request_queues
Hook = Callable[[Message], Message | None]
Note = Callable[[str], None]


class _Due(NamedTuple):
    """A reply that the daemon owes."""

    request: int
    hook: Hook | None  # what the VMM is told instead, None for nothing


class Session:
    """Passes messages and requests between a VMM and a daemon until one of them is gone."""

    def __init__(self, vmm: Wire, daemon: Wire, overhearing: Overhearing, on_note: Note) -> None:
        """`overhearing` gets a copy of everything; `on_note` what a person should know."""
        self.tag = ""
        self.unanswered = 0  # requests that were lost when a queue stopped
        self._vmm, self._daemon, self._overhearing, self._on_note = vmm, daemon, overhearing, on_note
        self._memory, self._shadow_memory = memory.Memory(), ShadowMemory()
        self._is_shown = False  # whether the daemon knows the memory of the rings
        self._features = self._protocol = 0
        self._queues: dict[int, Queue] = {}
        self._due: deque[_Due] = deque()
        self._epoll = select.epoll()
        self._on_event: dict[int, Callable[[], None]] = {}
        self._watch(vmm.fileno(), self._on_vmm)
        self._watch(daemon.fileno(), self._on_daemon)
        self._told: set[str] = set()

    def close(self) -> None:
        """Close both connections, and everything that came through them."""
        self._epoll.close()
        for queue in self._queues.values():
            queue.close()
        self._vmm.close()
        self._daemon.close()
        self._shadow_memory.close()

    def work(self, for_s: float) -> None:
        """Do what there is to do, as it comes, for so many seconds.

        Raises EOFError, with words that say who, when one side is gone; Refused when one does what it must not.
        """
        poll, on_event, now_s = self._epoll.poll, self._on_event, time.monotonic
        end_s = now_s() + for_s
        left_s = for_s
        while left_s > 0:
            for fd, _ in poll(left_s):
                action = on_event.get(fd)
                if action is not None:  # else an earlier event of this round has closed it
                    action()
            left_s = end_s - now_s()

    # -- the rings -------------------------------------------------------------------------------------------------

    def _queue(self, index: int) -> Queue:
        if index >= MAX_QUEUES:
            raise Refused(f"queue {index}: the tap has rings for {MAX_QUEUES}")
        if index not in self._queues:
            queue = self._queues[index] = Queue(index)
            self._watch(queue.call_of_daemon, queue.carry, _RUNG)
        return self._queues[index]

    def _start(self, queue: Queue) -> None:
        queue.shadow = Shadow(
            queue.index,
            queue.guest_ring(self._memory),
            self._shadow_memory.slot(queue.index),
            self._memory,
            self._overhearing,
            base=queue.base,
            event_idx=bool(self._features & features.EVENT_IDX),
        )

    def _stop(self, queue: Queue) -> None:
        if queue.kick >= 0:
            self._unwatch(queue.kick)
        queue.stop()

    # -- what the VMM says -----------------------------------------------------------------------------------------

    def _on_vmm(self) -> None:
        try:
            message = self._vmm.read()
        except EOFError:
            raise EOFError("the VMM closed the connection") from None
        if message is None:
            return
        try:
            request = checked_request(message)
            handler = _HANDLERS.get(request)
            if handler is None:
                self._pass_on(message, None)
            else:
                handler(self, message)
        finally:
            message.close()

    def _pass_on(self, message: Message, hook: Hook | None) -> None:
        """Send a message to the daemon; `hook` makes of its reply what the VMM is told."""
        is_acknowledged = message.needs_reply and self._protocol & features.REPLY_ACK
        if SHAPES[Request(message.request)].replies or is_acknowledged:
            self._due.append(_Due(message.request, hook or _unchanged))
        self._send(message)

    def _send(self, message: Message) -> None:
        try:
            self._daemon.write(message)
        except EOFError:
            raise EOFError("the daemon closed the connection") from None

    def _ask_number(self, message: Message) -> None:
        hooks: dict[int, Callable[[int], int]] = {
            Request.GET_FEATURES: self._offered,
            Request.GET_PROTOCOL_FEATURES: self._offered_protocol,
            Request.GET_QUEUE_NUM: lambda number: min(number, MAX_QUEUES),
            Request.GET_MAX_MEM_SLOTS: lambda number: max(number - 1, 0),  # one is for the rings of the tap
        }
        change = hooks[message.request]
        self._pass_on(message, lambda reply: reply.with_payload(U64.pack(change(u64_of(reply)))))

    def _offered(self, offered: int) -> int:
        self._tell(features.masked(offered, features.DEVICE))
        return features.device(offered)

    def _offered_protocol(self, offered: int) -> int:
        self._tell(features.masked(offered, features.PROTOCOL))
        return features.protocol(offered)

    def _tell(self, notes: list[str]) -> None:
        for note in notes:
            if note not in self._told:  # QEMU asks twice
                self._told.add(note)
                self._on_note(note)

    def _set_features(self, message: Message) -> None:
        self._features = features.device(u64_of(message))
        self._pass_on(message.with_payload(U64.pack(self._features)), None)

    def _set_protocol_features(self, message: Message) -> None:
        self._protocol = features.protocol(u64_of(message))
        self._pass_on(message.with_payload(U64.pack(self._protocol)), None)

    def _set_mem_table(self, message: Message) -> None:
        places = memory.table(message)
        if len(places) >= TABLE_REGIONS:
            raise Refused(f"SET_MEM_TABLE of {len(places)} regions leaves no room for that of the tap")
        self._memory.replace(places, message.fds)
        self._is_shown = True
        self._pass_on(memory.table_with(message, self._shadow_memory.place, self._shadow_memory.fd), None)

    def _add_mem_reg(self, message: Message) -> None:
        self._memory.add(memory.single_region(message), message.fds[0])
        self._pass_on(message, None)

    def _rem_mem_reg(self, message: Message) -> None:
        self._memory.remove(memory.single_region(message))
        self._pass_on(message, None)

    def _show_rings(self) -> None:
        """Tell the daemon where the rings of the tap are, as one more region."""
        if self._is_shown:
            return
        if not self._protocol & features.CONFIGURE_MEM_SLOTS:
            raise Refused("the VMM names a ring before any memory")
        self._is_shown = True
        place, flags = self._shadow_memory.place, VERSION
        if self._protocol & features.REPLY_ACK:
            flags |= NEED_REPLY
        payload = SINGLE_REGION.pack(0, place.guest, place.size, place.user, place.offset)
        self._pass_on(Message(Request.ADD_MEM_REG, flags, payload, [os.dup(self._shadow_memory.fd)]), _taken)

    def _set_vring_num(self, message: Message) -> None:
        index, size = STATE.unpack(message.payload)
        queue = self._queue(index)
        check_size(size)
        if queue.shadow is not None and size != queue.size:
            raise Refused(f"the size of queue {index} is changed while it runs")
        queue.size = size
        self._pass_on(message, None)

    def _set_vring_base(self, message: Message) -> None:
        index, base = STATE.unpack(message.payload)
        queue = self._queue(index)
        if base > 0xFFFF or queue.shadow is not None:
            raise Refused(f"queue {index} is to begin at {base}" + (" while it runs" if queue.shadow else ""))
        queue.base = base
        self._pass_on(message.with_payload(STATE.pack(index, 0)), None)

    def _set_vring_addr(self, message: Message) -> None:
        index, flags, descriptors, used, available, _ = ADDRESS.unpack(message.payload)
        queue, addresses = self._queue(index), (descriptors, available, used)
        if flags & _LOG_FLAG:
            raise Refused(f"changes of queue {index} are to be logged, which was not offered")
        if queue.shadow is not None and addresses != queue.addresses:
            raise Refused(f"queue {index} is moved while it runs")
        queue.addresses = addresses
        self._show_rings()
        slot = self._shadow_memory.slot(index)
        if queue.shadow is None:
            slot.fresh_ring(queue.size or 1)  # the daemon reads its indexes now
        self._pass_on(message.with_payload(ADDRESS.pack(index, 0, *slot.addresses, 0)), None)

    def _set_vring_kick(self, message: Message) -> None:
        index = event_of(message)
        if not message.fds:
            raise Refused(f"queue {index} is to be polled, which the tap does not")
        queue = self._queue(index)
        if queue.kick >= 0:
            self._unwatch(queue.kick)
        queue.kick = replaced(queue.kick, message.fds.pop())
        if queue.shadow is None:
            self._start(queue)
        self._pass_on(Message(message.request, message.flags, U64.pack(index), [os.dup(queue.kick_daemon)]), None)
        self._watch(queue.kick, queue.carry, _RUNG)
        queue.carry()  # some may wait since before

    def _set_vring_call(self, message: Message) -> None:
        index = event_of(message)
        queue = self._queue(index)
        queue.call = replaced(queue.call, message.fds.pop() if message.fds else -1)
        self._pass_on(Message(message.request, message.flags, U64.pack(index), [os.dup(queue.call_of_daemon)]), None)
        if queue.shadow is not None:
            queue.tell_guest()  # what was completed before could not be told; once too often does no harm

    def _get_vring_base(self, message: Message) -> None:
        queue = self._queue(STATE.unpack(message.payload)[0])
        queue.is_frozen = True
        self._pass_on(message, lambda reply: self._stopped(queue, reply))

    def _stopped(self, queue: Queue, reply: Message) -> Message:
        if len(reply.payload) != STATE.size:
            raise Refused(f"the daemon answered {reply.name} with {len(reply.payload)} bytes")
        index, base = STATE.unpack(reply.payload)
        if queue.shadow is not None:
            self._finish(queue, queue.shadow, base)
            base = queue.shadow.base_for_guest(base)
            self._stop(queue)
        return reply.with_payload(STATE.pack(index, base))

    def _finish(self, queue: Queue, shadow: Shadow, daemon_base: int) -> None:
        """Wait a moment for what the daemon is still at: after this the guest may use its memory for other things."""
        deadline_s = time.monotonic() + STOP_WAIT_S
        quiet(queue.call_of_daemon)
        queue.carry()
        while shadow.unanswered(daemon_base) > 0 and (left_s := deadline_s - time.monotonic()) > 0:
            select.select([queue.call_of_daemon], [], [], left_s)
            quiet(queue.call_of_daemon)
            queue.carry()
        self._count_unanswered(queue, max(0, shadow.unanswered(daemon_base)))

    def _count_unanswered(self, queue: Queue, count: int) -> None:
        if count:
            self.unanswered += count
            self._on_note(f"queue {queue.index} was stopped while the daemon had {count} requests")

    def _reset_device(self, message: Message) -> None:
        for queue in self._queues.values():
            queue.is_frozen = True
            queue.carry()
            if queue.shadow is not None:
                self._count_unanswered(queue, queue.shadow.in_flight)
            self._stop(queue)
        self._pass_on(message, None)

    def _get_config(self, message: Message) -> None:
        self._pass_on(message, self._config)

    def _config(self, reply: Message) -> Message:
        if len(reply.payload) >= CONFIG.size + _TAG and CONFIG.unpack_from(reply.payload)[0] == 0:
            name = reply.payload[CONFIG.size : CONFIG.size + _TAG].partition(b"\0")[0]
            self.tag = name.decode("utf-8", "backslashreplace")
        return reply

    # -- what the daemon says --------------------------------------------------------------------------------------

    def _on_daemon(self) -> None:
        try:
            message = self._daemon.read()
        except EOFError:
            raise EOFError("the daemon closed the connection") from None
        if message is None:
            return
        try:
            self._answer(message)
        finally:
            message.close()

    def _answer(self, message: Message) -> None:
        if not message.is_reply or not self._due or self._due[0].request != message.request:
            raise Refused(f"the daemon sent {message.name}, which nobody asked for")
        hook = self._due.popleft().hook
        reply = hook(message) if hook is not None else message
        if reply is None:
            return
        try:
            self._vmm.write(reply)
        except EOFError:
            raise EOFError("the VMM closed the connection") from None

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _watch(self, fd: int, action: Callable[[], None], events: int = select.EPOLLIN) -> None:
        self._on_event[fd] = action
        self._epoll.register(fd, events)

    def _unwatch(self, fd: int) -> None:
        del self._on_event[fd]
        self._epoll.unregister(fd)


def _unchanged(reply: Message) -> Message:
    return reply


def _taken(reply: Message) -> None:
    """Swallow the acknowledgement of what the VMM knows nothing of."""
    if status := u64_of(reply):
        raise Refused(f"the daemon did not take the memory of the rings: {status}")


_HANDLERS: Final[dict[Request, Callable[[Session, Message], None]]] = {
    Request.GET_FEATURES: Session._ask_number,
    Request.SET_FEATURES: Session._set_features,
    Request.SET_MEM_TABLE: Session._set_mem_table,
    Request.SET_VRING_NUM: Session._set_vring_num,
    Request.SET_VRING_ADDR: Session._set_vring_addr,
    Request.SET_VRING_BASE: Session._set_vring_base,
    Request.GET_VRING_BASE: Session._get_vring_base,
    Request.SET_VRING_KICK: Session._set_vring_kick,
    Request.SET_VRING_CALL: Session._set_vring_call,
    Request.GET_PROTOCOL_FEATURES: Session._ask_number,
    Request.SET_PROTOCOL_FEATURES: Session._set_protocol_features,
    Request.GET_QUEUE_NUM: Session._ask_number,
    Request.GET_CONFIG: Session._get_config,
    Request.RESET_DEVICE: Session._reset_device,
    Request.GET_MAX_MEM_SLOTS: Session._ask_number,
    Request.ADD_MEM_REG: Session._add_mem_reg,
    Request.REM_MEM_REG: Session._rem_mem_reg,
}
