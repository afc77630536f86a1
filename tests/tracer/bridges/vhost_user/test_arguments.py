"""The words of the command line that ask for the tap."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tracer.bridges.vhost_user import VhostUserBridge
from tracer.cli.source import add_source, bridge_of, source_words
from tracer.errors import TracerError


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_source(parser)
    return parser.parse_args(words)


def test_two_sockets_ask_for_the_tap_and_survive_as_words_of_another_command() -> None:
    arguments = parsed("--vhost-user", "/run/tap", "--daemon", "/run/virtiofsd", "--tag", "home")
    assert isinstance(bridge_of(arguments, print), VhostUserBridge)
    again = parsed(*source_words(arguments))
    assert (again.vhost_user, again.daemon, again.tag) == (Path("/run/tap"), Path("/run/virtiofsd"), "home")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--vhost-user a", "go together"),
        ("--tag home --pid 1", "go together"),
        ("--daemon a", "say what to record"),
        ("--vhost-user a --daemon b --pid 1", "one thing at a time"),
        ("--vhost-user a --daemon b --all", "one thing at a time"),
        ("--vhost-user a --daemon b --bridge ebpf", "goes without --bridge"),
        ("--vhost-user a --daemon b --opcodes READ", "goes without --opcodes"),
    ],
)
def test_what_does_not_go_with_the_tap_is_refused(words: str, reason: str) -> None:
    with pytest.raises(TracerError, match=reason):
        bridge_of(parsed(*words.split()), print)


def test_a_descriptor_may_listen_and_is_not_handed_to_another_command() -> None:
    arguments = parsed("--vhost-user", "fd:3", "--daemon", "/run/virtiofsd")
    assert arguments.vhost_user == 3
    with pytest.raises(TracerError, match="cannot be handed on"):
        source_words(arguments)
    assert parsed("--vhost-user", "fd:tap", "--daemon", "b").vhost_user == Path("fd:tap")
