"""SERVERS.toml to a MatrixSpec: docs/matrix.md describes the file; a mistake in it is one line that names its place."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dissectors.text import escape
from replays.init import InitEdit
from replays.judging.rules import RuleSet
from replays.matrix.spec import LIMIT_S, Isolation, MatrixSpec, ServerSpec, Words
from replays.matrix.table import Table, Value
from replays.matrix.words import BUILT_IN, HERE, MOUNT, SCRATCH, SOURCE, check_words, is_name
from replays.options import ReplayOptions
from replays.transports.launcher import AUTO, TRANSPORTS
from replays.transports.process import START_TIMEOUT_S
from tracer.errors import TracerError

MOST_BYTES: Final = 1 << 20  # of a file that people write
MOST_SERVERS: Final = 1000
LONGEST_NAME: Final = 60
_BESIDE_SERVER = frozenset((HERE,))
_OF_SERVER = frozenset((HERE, SOURCE, SCRATCH))


def read_spec(path: Path, variables: Mapping[str, str] | None = None) -> MatrixSpec:
    """Read and check a file. `variables` are put over those of its [variables]. Raises TracerError."""
    shown = escape(os.fsencode(path.name))
    tables = _tables(path, shown)
    top = Table(shown, tables)
    source = top.text("source")
    make_source = top.command("make_source")
    top.texts("variables")
    for key in ("defaults", "servers"):
        top.mapping(key)
    top.refuse_others()
    if source and make_source:
        raise TracerError(f"{shown}: source and make_source are both there", "give the files, or how to make them")
    known = _variables(shown, top.texts("variables"), variables or {})
    check_words(make_source, _BESIDE_SERVER | {SOURCE} | known.keys(), f"{shown}: make_source")
    servers = _servers(shown, top, frozenset(known))
    return MatrixSpec(path, servers, _beside(path, source), make_source, known)


def chosen(servers: tuple[ServerSpec, ...], names: Sequence[str]) -> tuple[ServerSpec, ...]:
    """Return the servers of these names, all when none is given. TracerError for a name that no server has."""
    known = [server.name for server in servers]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise TracerError(
                f"there is no server {name!a}",
                f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}",
            )
    return tuple(server for server in servers if not names or server.name in names)


def _tables(path: Path, shown: str) -> dict[str, Value]:
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise TracerError(f"{shown} is longer than {MOST_BYTES >> 20} MiB", "is it the list of servers?")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise TracerError(
            f"cannot read {escape(os.fsencode(path))}: {error.strerror}", "name a list of servers"
        ) from None
    except UnicodeDecodeError:
        raise TracerError(
            f"{shown} is no text in UTF-8", "the trace comes first: fusewire matrix FILE SERVERS.toml"
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise TracerError(
            f"{shown} is no TOML: {escape(str(error).encode())}", "docs/matrix.md has an example"
        ) from None


def _beside(path: Path, source: str) -> Path | None:
    return path.parent / source if source else None


def _variables(shown: str, own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    for name in own:
        if not is_name(name):
            raise TracerError(
                f"{shown}: no variable can be called {name!a}",
                f"letters, digits and _, and none of {', '.join(BUILT_IN)}",
            )
    for name in given:
        if name not in own:
            raise TracerError(
                f"{shown} has no variable {name!a}", f"it has: {', '.join(own) or 'none; add them under [variables]'}"
            )
    return {**own, **given}


def _servers(shown: str, top: Table, variables: frozenset[str]) -> tuple[ServerSpec, ...]:
    defaults = Table(f"{shown}: [defaults]", top.mapping("defaults"))
    _server("", defaults, variables)  # so that its mistakes are told as its own
    defaults.refuse_others()
    found = []
    tables = top.mapping("servers")
    if not 0 < len(tables) <= MOST_SERVERS:
        raise TracerError(f"{shown} names {len(tables) or 'no'} servers", "each has a table: [servers.NAME]")
    for name, values in tables.items():
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise TracerError(f"{shown}: a server is called {name[:LONGEST_NAME]!a}", f"1 to {LONGEST_NAME} letters")
        if not isinstance(values, dict):
            raise TracerError(f"{shown}: [servers] has {name!a}, which is no server", f"write [servers.{name}]")
        table = Table(f"{shown}: server {name!r}", values, defaults)
        server = _server(name, table, variables)
        table.refuse_others()
        if not server.command:
            raise TracerError(f"{table.name} has no command", 'command = ["program", "-f", "{source}", "{mount}"]')
        _check_places(table, server, variables)
        found.append(server)
    return tuple(found)


def _server(name: str, table: Table, variables: frozenset[str]) -> ServerSpec:
    transport = table.text("transport", AUTO)
    if transport not in (AUTO, *TRANSPORTS):
        raise TracerError(f"{table.name}: transport is {transport!a}", f"one of {', '.join((AUTO, *TRANSPORTS))}")
    return ServerSpec(
        name,
        table.command("command"),
        transport,
        table.texts("env"),
        table.one_of("isolation", Isolation.COPY),
        table.words("needs", "a list of programs"),
        table.flag("needs_root", False),
        table.commands("prepare"),
        table.command("version"),
        table.text("version_has"),
        table.words("traces", 'a list of patterns of names: ["reading*"]'),
        table.text("skip"),
        _options(table),
        table.number("start_timeout", START_TIMEOUT_S, "a number of seconds above 0"),
        table.number("limit", LIMIT_S, "a number of seconds above 0"),
    )


def _options(table: Table) -> ReplayOptions:
    """Take what `fusewire replay` has options for, under the same names."""
    plain = ReplayOptions()
    ignore = frozenset(table.words("ignore", "a list of rules"))
    init = table.text("init")
    try:
        RuleSet(ignore)
        edit = InitEdit.parse(init)
    except TracerError as error:
        raise TracerError(f"{table.name}: {error.message}", error.hint) from None
    return ReplayOptions(
        order=table.one_of("order", plain.order),
        speed=table.number("speed", plain.speed),
        window=table.count("window", plain.window),
        init=edit,
        allow_writes=table.flag("allow_writes", plain.allow_writes),
        zero_fill=table.flag("zero_fill", plain.zero_fill),
        learn=not table.flag("no_learn", not plain.learn),
        ignore=ignore,
        strict=table.flag("strict", plain.strict),
        max_differences=table.count("max_diffs", plain.max_differences),
        timeout_s=table.number("timeout", plain.timeout_s, "a number of seconds above 0"),
        limit_s=table.number("limit", LIMIT_S, "a number of seconds above 0"),
        uids=table.ids("uid_map", os.geteuid()),
        gids=table.ids("gid_map", os.getegid()),
    )


def _check_places(table: Table, server: ServerSpec, variables: frozenset[str]) -> None:
    """Refuse placeholders that stand for nothing."""
    beside, own = _BESIDE_SERVER | variables, _OF_SERVER | variables
    words: Sequence[tuple[str, Words, frozenset[str]]] = (
        ("command", server.command, own | {MOUNT}),
        *(("prepare", command, own) for command in server.prepare),
        ("env", tuple(server.environment.values()), own),
        ("version", server.version, beside),
        ("needs", server.needs, beside),
    )
    for key, texts, known in words:
        check_words(texts, known, f"{table.name}: {key}")
