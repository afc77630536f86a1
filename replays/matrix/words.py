"""Placeholders in the words of a command: {source}, {scratch}, {mount}, {here}, and the user's own variables."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Final

from replays.transports.command import PLACEHOLDER
from tracer.errors import TracerError

SOURCE: Final = "source"  # the server's own copy of the files, or overlay over them
SCRATCH: Final = "scratch"  # an empty directory of its own
MOUNT: Final = "mount"  # where it would mount; nothing is mounted
HERE: Final = "here"  # the directory of the user's file
BUILT_IN: Final = (SOURCE, SCRATCH, MOUNT, HERE)
# not ${HOME} of a shell
_PLACE = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")


def filled(words: tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    """Return the words with what the placeholders stand for; KeyError for one that `check_words` would refuse."""
    known = {**values, MOUNT: PLACEHOLDER}
    return [_PLACE.sub(lambda found: known[found[1]], word) for word in words]


def check_words(words: tuple[str, ...], known: frozenset[str], where: str) -> None:
    """Raise TracerError for a placeholder that is not among `known`."""
    for name in (name for word in words for name in _PLACE.findall(word)):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {{{near[0]}}}?" if near else f"here may stand: {', '.join(sorted(known)) or 'none'}"
            raise TracerError(f"{where}: nothing is called {{{name}}}", hint)


def is_of_server(word: str) -> bool:
    """Tell whether what the word says is known only once a server has its place."""
    return any(name in (SOURCE, SCRATCH, MOUNT) for name in _PLACE.findall(word))


def is_name(text: str) -> bool:
    """Tell whether a variable may have this name."""
    return bool(_PLACE.fullmatch(f"{{{text}}}")) and text not in BUILT_IN
