"""The user's own function that changes or drops messages before they are sent: FILE.py:function."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from replays.options import Edit
from tracer.errors import TracerError


def load_edit(spec: str) -> Edit:
    """Load "FILE.py:function", which takes a whole request as bytes and returns what to send, or None to drop it.

    It runs as code of the user's own, with all their rights. Header length, ids and all else may be changed; the unique
    is put back. TracerError when there is no such file or function, and, told with its place, for whatever they raise.
    """
    path, _, name = spec.rpartition(":")
    if not path or not name:
        raise TracerError(f"--edit {spec!r} names no function", "write FILE.py:function")
    with _users_own(spec):
        module = _module(Path(path))
    function = getattr(module, name, None)
    if not callable(function):
        raise TracerError(f"{path} has no function {name!r}", "write FILE.py:function")

    def edit(message: bytes) -> bytes | None:
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
