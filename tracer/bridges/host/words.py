"""Words of others for a message to a person."""

from __future__ import annotations


def printable(text: bytes, limit: int = 80) -> str:
    """Return `text` for a message to a person: ASCII only, cut to `limit` characters."""
    shown = text[:limit].decode("ascii", "backslashreplace")
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)
    return shown + ("..." if len(text) > limit else "")
