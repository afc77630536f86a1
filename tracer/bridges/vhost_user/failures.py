"""Why a session between a VMM and a daemon is ended."""

from __future__ import annotations


class Refused(Exception):
    """What one side said or wrote into shared memory is against the protocol, or out of bounds; says what, in one line.

    The session is closed: neither side is given anything that was made of it.
    """
