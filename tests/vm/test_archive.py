"""The cache of Debian packages: what it says when there is nothing to be had, and what it does when it is offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracer.lab import archive

NOWHERE = "http://127.0.0.1:9"  # the discard port, which nothing listens on


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, NOWHERE)
    monkeypatch.delenv("no_proxy", raising=False)


def test_without_apt_it_is_apt_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(archive.Unavailable, match="apt-get is not installed"):
        archive.unpacked("bookworm", "busybox-static", ("*",))


@pytest.mark.usefixtures("_offline")
def test_offline_the_update_failed() -> None:
    with pytest.raises(archive.Unavailable, match=r"apt-get update .*failed|apt knows no Debian mirror"):
        archive.unpacked("bookworm", "busybox-static", ("*",))


@pytest.mark.usefixtures("_offline")
def test_offline_what_was_fetched_before_is_used() -> None:
    kind = archive.contents_id(("*",))
    before = archive.cache() / "bookworm" / f"busybox-static_1-{kind}"
    before.mkdir(parents=True)
    (before.parent / f"busybox-static-{kind}.newest").symlink_to(before.name)
    assert archive.unpacked("bookworm", "busybox-static", ("*",)) == before
