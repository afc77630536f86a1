"""The project's passthrough server upon libfuse 3 that splices (tests/fixtures/splicing_server.c)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.servers import compiled
from tests.servers.real import WithSource


@dataclass
class Splicing(WithSource):
    """libfuse 3: READs longer than two pages are answered, and every request is taken, by splice(2).

    So neither read(2) nor write(2) shows the payloads; WRITEs carry at most 128 KiB.
    """

    name = "splicing"

    @classmethod
    def lacks(cls) -> str | None:
        return compiled.why_no_libfuse3()

    def command(self, mount_point: Path) -> list[str]:
        return [str(compiled.splicing_server()), str(self.seeded()), str(mount_point)]
