"""A real BPF ring buffer that is filled on demand: a small program, compiled here, run by bpf(BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("made_ring.bpf.c")
EVENT_SIZE = 80
_SIZES = 16


class CannotMake(Exception):
    """There is no ring to be had here; the message says why."""


class _Order(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_uint32),
        ("size_count", ctypes.c_uint32),
        ("sizes", ctypes.c_uint32 * _SIZES),
        ("discard_every", ctypes.c_uint32),
        ("connection", ctypes.c_uint32),
    )


class _State(ctypes.Structure):
    _fields_ = (
        ("made", ctypes.c_uint64),
        ("dropped", ctypes.c_uint64),
        ("dropped_bytes", ctypes.c_uint64),
        ("order", _Order),
    )


class _TestRun(ctypes.Structure):
    """struct bpf_test_run_opts of libbpf."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class MadeRing:
    """A ring of `size` bytes and the program that fills it. CannotMake says what is missing."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._libbpf = _libbpf()
        with tempfile.TemporaryDirectory(prefix="fusewire-ring-") as directory:
            path = Path(directory) / "made_ring.bpf.o"
            _compile(path)
            self._object = self._libbpf.bpf_object__open_file(os.fsencode(path), None)
        if not self._object:
            raise CannotMake("libbpf cannot read what clang made")
        self._libbpf.bpf_map__set_max_entries(
            self._libbpf.bpf_object__find_map_by_name(self._object, b"events"), ctypes.c_uint32(size)
        )
        code = self._libbpf.bpf_object__load(self._object)
        if code:
            self.close()
            raise CannotMake(f"bpf(BPF_PROG_LOAD): {os.strerror(-code)}")
        self.fd = self._map("events")
        self._states = self._map("states")
        self._scratch = self._map("scratch")
        program = self._libbpf.bpf_object__find_program_by_name(self._object, b"fill")
        self._program = self._libbpf.bpf_program__fd(program)

    def fill(self, count: int, sizes: Sequence[int], *, discard_every: int = 0, connection: int = 40) -> None:
        """Make `count` events whose records have `sizes` in turn, each at least 96: header and FUSE header."""
        order = _Order(count, len(sizes), (ctypes.c_uint32 * _SIZES)(*sizes), discard_every, connection)
        run = _TestRun(sz=ctypes.sizeof(_TestRun), ctx_in=ctypes.addressof(order), ctx_size_in=ctypes.sizeof(order))
        code = self._libbpf.bpf_prog_test_run_opts(self._program, ctypes.byref(run))
        if code or run.retval:
            raise CannotMake(f"bpf(BPF_PROG_TEST_RUN): {os.strerror(-code)}, returned {run.retval}")

    def lay_out(self, content: bytes) -> None:
        """Set the bytes every event is made of; the program writes the event's header and the FUSE header."""
        key = ctypes.c_uint32(0)
        value = ctypes.create_string_buffer(content, 1 << 21)
        self._libbpf.bpf_map_update_elem(self._scratch, ctypes.byref(key), value, ctypes.c_uint64(0))

    @property
    def made(self) -> int:
        """How many events were made since the beginning, dropped ones too."""
        return int(self._state().made)

    @property
    def dropped(self) -> int:
        """How many of them found no room."""
        return int(self._state().dropped)

    def close(self) -> None:
        self._libbpf.bpf_object__close(ctypes.c_void_p(self._object))

    def __enter__(self) -> MadeRing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _state(self) -> _State:
        key, state = ctypes.c_uint32(0), _State()
        self._libbpf.bpf_map_lookup_elem(self._states, ctypes.byref(key), ctypes.byref(state))
        return state

    def _map(self, name: str) -> int:
        return int(self._libbpf.bpf_object__find_map_fd_by_name(self._object, name.encode()))


def _libbpf() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise CannotMake(f"libbpf.so.1 is not installed: {error}") from error
    library.libbpf_set_print(None)
    for name in ("bpf_object__open_file", "bpf_object__find_map_by_name", "bpf_object__find_program_by_name"):
        function = library[name]
        function.restype = ctypes.c_void_p
        setattr(library, name, _on_handles(function))
    for name in ("bpf_object__load", "bpf_object__find_map_fd_by_name", "bpf_program__fd", "bpf_map__set_max_entries"):
        setattr(library, name, _on_handles(library[name]))
    return library


def _on_handles(function):  # type: ignore[no-untyped-def]
    """Let a function take the pointers that other functions returned as whole numbers."""

    def called(handle, *rest):  # type: ignore[no-untyped-def]
        return function(ctypes.c_void_p(handle) if isinstance(handle, int) else handle, *rest)

    return called


def _compile(path: Path) -> None:
    clang = shutil.which("clang")
    if clang is None:
        raise CannotMake("clang is not installed")
    architecture = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}.get(os.uname().machine, "")
    argv = [
        clang,
        "-g",
        "-O2",
        "-mcpu=v3",
        "-target",
        "bpf",
        f"-I/usr/include/{architecture}",
        "-c",
        SOURCE,
        "-o",
        path,
    ]
    ended = subprocess.run([*argv, "-o", path], capture_output=True, text=True, timeout=120, check=False)
    if ended.returncode:
        raise CannotMake(f"clang cannot compile {SOURCE.name}: {ended.stderr.strip().splitlines()[0]}")
