"""SERVERS.toml means what it says, and whatever is wrong in it is one line that names the place."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from replays.matrix.reading import MOST_BYTES, chosen, read_spec
from replays.matrix.spec import Isolation, MatrixSpec
from replays.matrix.words import filled
from replays.options import Order
from tracer.cli.replaying import add_comparing, add_playing
from tracer.errors import TracerError

SERVER = '[servers.one]\ncommand = ["one"]\n'
ELSEWHERE = {"channel", "pace", "edit"}  # what is decided for all servers, said by speed, or code
OUTPUTS = {"rules", "compare_tree", "output", "json"}
SAMPLE = Path(__file__).parents[3] / "examples/matrix/servers.toml"
DOCUMENTATION = Path(__file__).parents[3] / "docs/matrix.md"


def read(tmp_path: Path, text: str, **variables: str) -> MatrixSpec:
    path = tmp_path / "servers.toml"
    path.write_text(text)
    return read_spec(path, variables)


def test_a_server_has_what_its_table_says_over_the_defaults(tmp_path: Path) -> None:
    spec = read(
        tmp_path,
        """
        source = "files"
        [defaults]
        allow_writes = true
        timeout = 5
        env = { A = "1", B = "2" }
        [servers."two, fast"]
        command = ["two", "{mount}"]
        order = "serial"
        isolation = "overlay"
        timeout = 1.5
        env = { B = "3" }
        prepare = ["mkdir", "{scratch}/x"]
        init = "minor=31"
        [servers.one]
        command = ["one"]
        prepare = [["true"], ["false"]]
        ignore = ["owner"]
        """,
    )
    two, one = spec.servers
    assert spec.source == tmp_path / "files"
    assert (two.name, one.name) == ("two, fast", "one")
    assert (two.options.order, two.options.timeout_s, two.options.init.minor) == (Order.SERIAL, 1.5, 31)
    assert (one.options.order, one.options.timeout_s, one.options.ignore) == (Order.CAUSAL, 5.0, {"owner"})
    assert two.options.allow_writes
    assert one.options.allow_writes
    assert (two.isolation, one.isolation) == (Isolation.OVERLAY, Isolation.COPY)
    assert (two.environment, one.environment) == ({"A": "1", "B": "3"}, {"A": "1", "B": "2"})
    assert (two.prepare, one.prepare) == ((("mkdir", "{scratch}/x"),), (("true",), ("false",)))


def test_whatever_a_replay_has_options_for_a_server_may_have_under_the_same_name(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_playing(parser)
    add_comparing(parser)
    names = {action.dest for action in parser._actions} - ELSEWHERE - OUTPUTS
    with pytest.raises(TracerError) as refused:
        read(tmp_path, SERVER + "qqqq = 1\n")
    assert names <= set(refused.value.hint.removeprefix("known are: ").split(", "))


def test_users_become_others_or_ourselves(tmp_path: Path) -> None:
    spec = read(tmp_path, SERVER + 'uid_map = { 7 = "me", 8 = 9, 5 = 5 }\n')
    assert spec.servers[0].options.uids == {7: os.geteuid(), 8: 9}


def test_a_variable_is_what_the_command_line_says_over_the_file(tmp_path: Path) -> None:
    text = '[variables]\nprogram = "a"\n[servers.one]\ncommand = ["{program}", "{mount}", "{}", "${HOME}"]\n'
    spec = read(tmp_path, text, program="b")
    assert filled(spec.servers[0].command, spec.variables) == ["b", "{}", "{}", "${HOME}"]


def test_the_sample_names_a_server_of_each_kind() -> None:
    names = {server.name for server in read_spec(SAMPLE).servers}
    for name in ("passthrough", "passthrough_fh", "passthrough_ll", "bindfs", "sshfs", "squashfuse", "fuse-overlayfs"):
        assert name in names
    for name in ("unionfs-fuse", "virtiofsd (C)", "virtiofsd (Rust)", "rclone", "fuser, example simple"):
        assert name in names


WRONG = [
    ("", "servers.toml names no servers", "[servers.NAME]"),
    ("servers = 3", "servers.toml: servers is 3", "it must be a table"),
    ("[servers]\none = 3", "[servers] has 'one', which is no server", "[servers.one]"),
    ("[servers.one]\n", "server 'one' has no command", "command = ["),
    ("[servers.one]\ncomand = ['x']", "server 'one': there is no key 'comand'", "did you mean command?"),
    ("[default]\n" + SERVER, "servers.toml: there is no key 'default'", "did you mean defaults?"),
    ("[defaults]\ntimeuot = 3\n" + SERVER, "[defaults]: there is no key 'timeuot'", "did you mean timeout?"),
    ("[defaults]\ntimeout = 'x'\n" + SERVER, "[defaults]: timeout is 'x'", "seconds above 0"),
    ("[servers.one]\ncommand = 'one -f'", "server 'one': command is 'one -f'", "a list of words"),
    ("[servers.one]\ncommand = ['one', '']", "server 'one': command is", "a list of words"),
    ("[servers.one]\ncommand = ['one', \"a\\u0000b\"]", "server 'one': command is", "a list of words"),
    (SERVER + "prepare = [['a'], 'b']", "server 'one': prepare is", "list of such lists"),
    (SERVER + "timeout = 0", "server 'one': timeout is 0", "above 0"),
    (SERVER + "timeout = nan", "server 'one': timeout is nan", "above 0"),
    (SERVER + "timeout = inf", "server 'one': timeout is inf", "above 0"),
    (SERVER + "timeout = true", "server 'one': timeout is True", "above 0"),
    (SERVER + "window = 1.5", "server 'one': window is 1.5", "whole number"),
    (SERVER + "allow_writes = 1", "server 'one': allow_writes is 1", "true or false"),
    (SERVER + "order = 'fast'", "server 'one': order is 'fast'", "causal, serial, dependencies"),
    (SERVER + "transport = 'udp'", "server 'one': transport is 'udp'", "seccomp"),
    (SERVER + "isolation = 'vm'", "server 'one': isolation is 'vm'", "copy, overlay"),
    (SERVER + "ignore = ['onwer']", "server 'one': there is no rule 'onwer'", "did you mean owner?"),
    (SERVER + "init = 'flags-=READDIRPLU'", "server 'one': --init: there is no INIT flag", "did you mean"),
    (SERVER + "env = { A = 1 }", "server 'one': env is", "a table of texts"),
    (SERVER + "uid_map = { 7 = 'you' }", "server 'one': uid_map is", '"me"'),
    (SERVER + "uid_map = { x = 1 }", "server 'one': uid_map is", '"me"'),
    (SERVER + "uid_map = { 7 = 4294967296 }", "server 'one': uid_map is", '"me"'),
    (SERVER + "needs = ['{scratch}']", "server 'one': needs: nothing is called {scratch}", "here may stand: here"),
    ("[servers.one]\ncommand = ['{sourc}']", "server 'one': command: nothing is called {sourc}", "{source}"),
    (SERVER + "prepare = ['x', '{mount}']", "server 'one': prepare: nothing is called {mount}", ""),
    (SERVER + "env = { A = '{b}' }", "server 'one': env: nothing is called {b}", ""),
    ("source = 'a'\nmake_source = ['b']\n" + SERVER, "source and make_source are both there", ""),
    ("make_source = ['b', '{scratch}']\n" + SERVER, "make_source: nothing is called {scratch}", ""),
    ("[variables]\nhere = 'x'\n" + SERVER, "no variable can be called 'here'", "none of"),
    ("[variables]\n'a b' = 'x'\n" + SERVER, "no variable can be called 'a b'", "letters"),
    ("[variables]\na = 1\n" + SERVER, "servers.toml: variables is", "a table of texts"),
    ("[servers.'']\ncommand = ['x']", "a server is called ''", ""),
    ("[servers.\"a\\u001b[2J\"]\ncommand = ['x']", "a server is called 'a\\x1b[2J'", ""),
    (SERVER + SERVER, "servers.toml is no TOML", "docs/matrix.md"),
    ("[servers", "servers.toml is no TOML", "docs/matrix.md"),
    ("a = " + "[" * 5000, "servers.toml is no TOML", "docs/matrix.md"),
    ("#" * (MOST_BYTES + 1), "longer than 1 MiB", ""),
]


@pytest.mark.parametrize(("text", "message", "hint"), WRONG, ids=[message for _, message, _ in WRONG])
def test_a_mistake_is_one_line_that_names_its_place(text: str, message: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(TracerError) as refused:
        read(tmp_path, text)
    assert message in refused.value.message
    assert hint in refused.value.hint
    assert "\n" not in refused.value.message
    assert refused.value.message.isprintable()


def test_a_file_that_is_not_there_or_no_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(TracerError, match=r"cannot read .*missing.toml: No such file"):
        read_spec(tmp_path / "missing.toml")
    (tmp_path / "t.pcapng").write_bytes(b"\x0a\x0d\x0d\x0a\xff\xff")
    with pytest.raises(TracerError, match="no text in UTF-8") as refused:
        read_spec(tmp_path / "t.pcapng")
    assert "the trace comes first" in refused.value.hint


def test_a_variable_that_the_file_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TracerError, match="has no variable 'x'"):
        read(tmp_path, SERVER, x="1")


def test_only_servers_that_there_are_can_be_chosen(tmp_path: Path) -> None:
    servers = read(tmp_path, SERVER + '[servers.two]\ncommand = ["two"]\n').servers
    assert [server.name for server in chosen(servers, ["two"])] == ["two"]
    assert chosen(servers, []) == servers
    with pytest.raises(TracerError, match="no server 'twoo'") as refused:
        chosen(servers, ["twoo"])
    assert refused.value.hint == "did you mean 'two'?"


def test_the_documentation_has_an_example_that_is_read_and_names_every_key(tmp_path: Path) -> None:
    text = DOCUMENTATION.read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert [server.name for server in read(tmp_path, example).servers] == ["bindfs", "bindfs, an older kernel"]
    with pytest.raises(TracerError) as refused:
        read(tmp_path, SERVER + "qqqq = 1\n")
    for key in refused.value.hint.removeprefix("known are: ").split(", "):
        assert f"`{key}`" in text, key
