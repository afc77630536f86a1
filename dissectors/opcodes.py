"""Every opcode and notification of 7.12 to 7.46, by number and by name."""

from __future__ import annotations

from dissectors.operation import Answer, Body, Either, Enosys, NodeIs, Notification, Op
from dissectors.ops_attributes import ATTRIBUTE_OPS
from dissectors.ops_files import FILE_OPS
from dissectors.ops_names import NAME_OPS
from dissectors.ops_session import NOTIFICATIONS, SESSION_OPS

__all__ = [
    "CUSE_INIT_SWAPPED",
    "INIT_SWAPPED",
    "NEWEST_MINOR",
    "NOTIFICATIONS",
    "NOTIFY",
    "OPERATIONS",
    "OPS",
    "OPS_BY_NAME",
    "ROOT_ID",
    "Answer",
    "Body",
    "Either",
    "Enosys",
    "NodeIs",
    "Notification",
    "Op",
    "notify_name",
    "op_name",
]

OPERATIONS = tuple(sorted((*NAME_OPS, *ATTRIBUTE_OPS, *FILE_OPS, *SESSION_OPS), key=lambda op: op.code))
OPS = {op.code: op for op in OPERATIONS}
OPS_BY_NAME = {op.name: op for op in OPERATIONS}
NOTIFY = {notification.code: notification for notification in NOTIFICATIONS}

# INIT and CUSE_INIT in the other byte order; the kernel reserves both, so that they never mean anything else.
INIT_SWAPPED, CUSE_INIT_SWAPPED = 436207616, 1048576
ROOT_ID = 1
NEWEST_MINOR = 46


def op_name(code: int) -> str:
    """Name an opcode; an unknown one prints as its number."""
    op = OPS.get(code)
    return op.name if op else f"OPCODE_{code}"


def notify_name(code: int) -> str:
    """Name a notification's code; an unknown one prints as its number."""
    notification = NOTIFY.get(code)
    return f"NOTIFY_{notification.name}" if notification else f"NOTIFY_{code}"
