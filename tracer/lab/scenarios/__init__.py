"""The table of scenarios: what `fusewire lab` can run."""

from __future__ import annotations

from tracer.errors import TracerError
from tracer.lab.scenario import Scenario
from tracer.lab.scenarios import load, old_server, remount, slow_server, submount_sync, write_sync

SCENARIOS: tuple[Scenario, ...] = (
    submount_sync.SCENARIO,
    remount.STOCK,
    remount.FIXED,
    old_server.SCENARIO,
    slow_server.SLOW,
    slow_server.STALLED,
    write_sync.THROUGH,
    write_sync.BACK,
    load.SCENARIO,
)


def scenario(name: str) -> Scenario:
    """Return a scenario by name; TracerError when there is none."""
    for one in SCENARIOS:
        if one.name == name:
            return one
    raise TracerError(f"there is no scenario {name!a}", "fusewire lab --list names them")
