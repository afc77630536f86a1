"""What it takes to declare an opcode or a notification."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dissectors.fields import Field, When


class NodeIs(Enum):
    """What the header's nodeid stands for."""

    NODE = "node"
    PARENT = "parent"  # the directory in which the name is looked up or changed
    SUPERBLOCK = "superblock"  # the root of the mount or of one submount
    NONE = "none"


class Answer(Enum):
    """Whether the server answers."""

    REPLY = "reply"
    NEVER = "never"  # FORGET, BATCH_FORGET, NOTIFY_REPLY
    SELDOM = "seldom"  # INTERRUPT: only ENOSYS or EAGAIN; the target is answered instead


class Enosys(Enum):
    """What the caller of an operation sees when the server answers ENOSYS, and what the kernel does instead.

    Source: fs/fuse of Linux 6.18, each fc->no_* flag.
    """

    ITSELF = "ENOSYS"
    SUCCESS = "success"  # as if it had been done: FLUSH, FSYNC, SYNCFS, ACCESS ...
    OPENED = "success with handle 0"  # and nothing is released later
    UNSUPPORTED = "EOPNOTSUPP"
    INVALID = "EINVAL"
    NOT_PERMITTED = "EPERM"
    NOT_A_TTY = "ENOTTY"
    INSTEAD = "another way"  # other requests, or the kernel's own: CREATE -> MKNOD and OPEN, STATX -> GETATTR


@dataclass(frozen=True, slots=True, eq=False)
class Either:
    """A body with two shapes; `when` looks at the request, or at fields read before."""

    when: When
    then: tuple[Field, ...]
    otherwise: tuple[Field, ...]


Body = tuple[Field, ...] | Either


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Op:
    """One opcode, as declared: what is sent, what comes back, what the header's nodeid means."""

    code: int
    name: str
    since: int
    request: tuple[Field, ...] = ()
    reply: Body = ()
    node: NodeIs = NodeIs.NODE
    answer: Answer = Answer.REPLY
    extensible: bool = False  # may carry an extension area
    short_reply: bool = False  # the reply may end after any field, the rest counts as 0 (INIT)
    sticky_enosys: bool = False  # after one ENOSYS the kernel never asks this connection again
    enosys: Enosys = Enosys.ITSELF  # what one ENOSYS means to the caller
    waits: bool = False  # may be answered only after a later request was: a lock that another holds
    releases: bool = False  # the handle it names is gone afterwards
    mutates: bool = False  # changes what the server stores
    ring_payload_only: bool = False  # over io_uring its struct lies in the payload, not in the header area
    summary: str = ""  # one line for a list: {name} is a value of the request, {one|other} the one that is there
    reply_summary: str = ""
    doc: str = ""

    def __repr__(self) -> str:
        return f"<Op {self.name}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Notification:
    """A message the server sends unasked."""

    code: int
    name: str
    since: int
    payload: tuple[Field, ...] = ()
    summary: str = ""
    doc: str = ""

    def __repr__(self) -> str:
        return f"<Notification {self.name}>"
