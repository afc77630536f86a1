"""Features that the tap takes out of what a daemon offers, and why: with them it would not see everything.

Bits of the device are those of the virtio specification and <linux/vhost_types.h>, bits of the protocol those of
docs/interop/vhost-user.rst of QEMU.
"""

from __future__ import annotations

from typing import Final, NamedTuple

EVENT_IDX: Final = 1 << 29
PROTOCOL_FEATURES: Final = 1 << 30

REPLY_ACK: Final = 1 << 3
CONFIGURE_MEM_SLOTS: Final = 1 << 15


class Masked(NamedTuple):
    """A feature that is never offered to the VMM."""

    bit: int
    name: str
    reason: str


DEVICE: Final = (
    Masked(26, "LOG_ALL", "a migration would miss what the tap writes into the guest's rings"),
    Masked(33, "ACCESS_PLATFORM", "addresses would go through an IOMMU whose table the tap does not have"),
    Masked(34, "RING_PACKED", "the tap copies split rings only"),
    Masked(35, "IN_ORDER", "one used entry could stand for several requests"),
    Masked(38, "NOTIFICATION_DATA", "kicks would carry what the tap's own do not"),
)
PROTOCOL: Final = (
    Masked(1, "LOG_SHMFD", "a migration would miss what the tap writes into the guest's rings"),
    Masked(8, "PAGEFAULT", "memory that arrives later cannot be copied now"),
    Masked(11, "HOST_NOTIFIER", "the guest would kick the daemon past the tap"),
    Masked(12, "INFLIGHT_SHMFD", "requests in flight would be noted for the daemon's rings, which are not the guest's"),
    Masked(14, "INBAND_NOTIFICATIONS", "kicks would come through the socket, one message each"),
    Masked(17, "XEN_MMAP", "memory of Xen is mapped in another way"),
    Masked(20, "GET_VRING_BASE_INFLIGHT", "requests in flight would be noted for the daemon's rings"),
    Masked(21, "GPA_ADDRESSES", "rings would be named by guest addresses, the tap's memory has none"),
)
_DEVICE_MASK: Final = sum(1 << feature.bit for feature in DEVICE)
_PROTOCOL_MASK: Final = sum(1 << feature.bit for feature in PROTOCOL)


def device(offered: int) -> int:
    """Return the features of a device without those that blind the tap."""
    return offered & ~_DEVICE_MASK


def protocol(offered: int) -> int:
    """Return the features of the protocol without those that blind the tap."""
    return offered & ~_PROTOCOL_MASK


def masked(offered: int, features: tuple[Masked, ...]) -> list[str]:
    """Return, for a person, what was offered and is kept from the VMM."""
    return [f"{one.name} is not offered to the VMM: {one.reason}" for one in features if offered >> one.bit & 1]
