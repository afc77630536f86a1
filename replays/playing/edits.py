"""What changes or drops messages before they are sent: an expression, or a function of the user's own."""

from __future__ import annotations

import importlib.util
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from dissectors.layout import Context
from replays.options import Edit
from tracer.errors import TracerError

_FILE = re.compile(r".*\.py(?::\w*)?", re.DOTALL)


def load_edit(spec: str, *, allow_writes: bool = False) -> Edit:
    """Load "FILE.py:function", or anything else as an expression (`replays.playing.scapy_edit`).

    A function takes a whole request as bytes and returns what to send, or None to drop it. It runs as code of the
    user's own, with all their rights: header length, ids and all else may be changed; the unique is put back. An
    expression sends only what a kernel could, and what changes something only with `allow_writes`. TracerError when
    there is no such file or function, with the place for whatever they raise, with the column in an expression.
    """
    return _function(spec) if _FILE.fullmatch(spec) else _expression(spec, allow_writes)


def _expression(text: str, allow_writes: bool) -> Edit:
    try:
        from replays.playing.scapy_edit import expression
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "scapy":
            raise
        raise TracerError(
            "an expression in --edit needs scapy, which is not installed", "run: pip install 'fusewire[scapy]'"
        ) from error
    return expression(text, allow_writes=allow_writes)


def _function(spec: str) -> Edit:
    path, _, name = spec.rpartition(":")
    if not path or not name:
        raise TracerError(f"--edit {spec!r} names no function", "write FILE.py:function")
    with _users_own(spec):
        module = _module(Path(path))
    function = getattr(module, name, None)
    if not callable(function):
        raise TracerError(f"{path} has no function {name!r}", "write FILE.py:function")

    def edit(message: bytes, _: Context) -> bytes | None:
        with _users_own(spec):
            edited = function(message)
        if edited is not None and not isinstance(edited, bytes | bytearray):
            raise TracerError(
                f"{spec} returned {type(edited).__name__}", "it must return bytes, or None to drop the message"
            )
        return None if edited is None else bytes(edited)

    return edit


@contextmanager
def _users_own(spec: str) -> Iterator[None]:
    """Tell what code of the user's raises as their mistake; it is no bug of ours."""
    try:
        yield
    except TracerError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        file, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else (last.filename, last.lineno)
        raise TracerError(f"--edit {spec}: {type(error).__name__}: {error}", f"mend it at {file}:{line}") from error


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise TracerError(f"there is no file {path}", "write FILE.py:function")
    found = importlib.util.spec_from_file_location("fusewire_edit", path)
    if found is None or found.loader is None:
        raise TracerError(f"{path} is no Python file", "its name must end in .py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
