"""What a bridge must know of the processor before it shares memory with somebody else."""

from __future__ import annotations

import platform
from typing import Final

_STRONGLY_ORDERED: Final = ("x86_64", "AMD64")


def is_strongly_ordered() -> bool:
    """Tell whether plain loads and stores keep their order for another processor: Python has no barriers."""
    return platform.machine() in _STRONGLY_ORDERED
