"""The rule of .ci/run: a skip that scripts/allowed-skips.txt does not allow fails the run, and is named."""

from __future__ import annotations

from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent.parent / "scripts" / "pytest_house.py"
SKIPPING = """
import pytest

@pytest.mark.parametrize("server", ["bindfs", "sshfs"])
def test_of(server):
    pytest.skip(f"{server} is not installed")

@pytest.mark.xfail(strict=True, reason="an expected failure is no skip")
def test_expected_failure():
    assert False

def test_that_runs():
    pass
"""
ALLOWED = "test_some.py::test_of*\tis not installed\n"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs pytest with the plugin beside a list of allowed skips of the test's own."""

    def run_pytest(allowed: str, *options: str, test: str = SKIPPING, strict: bool = True) -> pytest.RunResult:
        house = pytester.mkdir("house")
        (house / PLUGIN.name).write_text(PLUGIN.read_text())
        (house / "allowed-skips.txt").write_text("# a comment\n\n" + allowed)
        monkeypatch.setenv("PYTHONPATH", str(house))
        monkeypatch.setenv("FUSEWIRE_STRICT_SKIPS", "1" if strict else "")
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the other plugins take a second to load
        pytester.makepyfile(test_some=test, test_other="def test_of_another_module(): pass")
        return pytester.runpytest_subprocess("-p", "pytest_house", *options, timeout=120)

    return run_pytest


@pytest.mark.parametrize(
    "options", [(), ("-p", "xdist.plugin", "-n", "1", "--dist", "loadgroup")], ids=["one-process", "xdist"]
)
def test_an_unlisted_skip_fails_the_run_and_is_named_with_its_reason(run, options: tuple[str, ...]) -> None:
    result = run("", *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, skipped=2, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*skips that are not allowed here*",
            "test_some.py::test_of?bindfs?: Skipped: bindfs is not installed",
            "test_some.py::test_of?sshfs?: Skipped: sshfs is not installed",
        ]
    )


def test_a_listed_skip_passes_and_an_expected_failure_is_no_skip(run) -> None:
    assert run(ALLOWED).ret == pytest.ExitCode.OK


def test_a_listed_test_that_skips_for_another_reason_fails_the_run(run) -> None:
    assert run("test_some.py::test_of*\tno /dev/fuse\n").ret == pytest.ExitCode.TESTS_FAILED


def test_a_module_that_skips_as_a_whole_fails_the_run(run) -> None:
    result = run(ALLOWED, test="import pytest\npytest.skip('not today', allow_module_level=True)\n")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["test_some.py: Skipped: not today"])


def test_skips_are_free_where_nobody_asked_for_strictness(run) -> None:
    assert run("", strict=False).ret == pytest.ExitCode.OK
