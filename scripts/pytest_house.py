"""The house rules of a test run: what shares a kernel, or boots one, runs in turn, and no skip goes unnoticed."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ALLOWED_SKIPS = Path(__file__).with_name("allowed-skips.txt")
# Tests of one mark are on one worker: e2e share loop devices, mounts and ptrace; each vm takes a processor for itself.
GROUPS = {"e2e": "kernel", "vm": "vm"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that are in each other's way on the same worker."""
    for item in items:
        for mark, group in GROUPS.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.xdist_group(group))


def pytest_configure(config: pytest.Config) -> None:
    """Watch the skips where the whole run is seen, which is not in a worker."""
    if os.environ.get("FUSEWIRE_STRICT_SKIPS") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipWatch(_allowed_skips(ALLOWED_SKIPS.read_text())), "skip-watch")


def _allowed_skips(text: str) -> list[tuple[str, str]]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [(pattern, words) for pattern, _, words in (line.partition("\t") for line in lines)]


class SkipWatch:
    """Fails the run when a test is skipped that the list does not allow."""

    def __init__(self, allowed: list[tuple[str, str]]) -> None:
        self.allowed = allowed
        self.unlisted: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a skipped test."""
        self._take(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take a module that was skipped as a whole."""
        self._take(report)

    def _take(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        test = report.nodeid.partition("@")[0]  # xdist appends the group's name
        if not any(fnmatchcase(test, pattern) and words in reason for pattern, words in self.allowed):
            self.unlisted.append(f"{test}: {reason}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a green run with an unlisted skip into a failed one."""
        if self.unlisted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the skips and what to do about them."""
        if self.unlisted:
            terminalreporter.section("skips that are not allowed here", red=True)
            for line in sorted(set(self.unlisted)):
                terminalreporter.line(line)
            terminalreporter.line(f"Mend the machine or the test, or allow it in scripts/{ALLOWED_SKIPS.name}.")
