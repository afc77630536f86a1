"""The kernel's side and ours agree on every byte, because a compiler says so."""

from __future__ import annotations

import shutil
import subprocess
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest

from tracer.bridges.ebpf import event

HEADER = Path(event.__file__).with_name("bpf") / "event.h"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
STRUCTURES = {
    "fw_event": event.EVENT,
    "fw_config": event.CONFIG,
    "fw_counters": event.COUNTERS,
    "fw_connection": event.CONNECTION,
    "fw_calibrate": event.CALIBRATE,
    "fw_unique_query": event.UNIQUE_QUERY,
}
ENUMS: dict[str, type[IntEnum]] = {
    "FW_": event.Kind,
    "FW_CONNECTIONS_": event.Choice,
}
FLAGS = {"FW_": event.Flag, "FW_CONN_": event.ConnectionFlag}

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler to ask")


def ask(expressions: list[str], directory: Path) -> dict[str, int]:
    """Return what the compiler makes of each expression over event.h."""
    lines = "".join(f'printf("%llu\\n", (unsigned long long)({one}));\n' for one in expressions)
    source = directory / "ask.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\nint main(void)\n{{\n{lines}return 0;\n}}\n'
    )
    binary = directory / "ask"
    assert COMPILER is not None
    subprocess.run([COMPILER, "-Wall", "-Werror", "-o", str(binary), str(source)], check=True, timeout=60)
    answer = subprocess.run([str(binary)], capture_output=True, text=True, check=True, timeout=60).stdout
    return dict(zip(expressions, map(int, answer.split()), strict=True))


def layout(name: str, dtype: np.dtype) -> dict[str, int]:
    """Return C expressions over a structure, with what numpy says of each."""
    assert dtype.fields is not None
    expected = {f"sizeof(struct {name})": dtype.itemsize}
    for field, (kind, offset, *_) in dtype.fields.items():
        expected[f"offsetof(struct {name}, {field})"] = offset
        expected[f"sizeof(((struct {name} *)0)->{field})"] = kind.itemsize
    return expected


@pytest.mark.parametrize("name", STRUCTURES)
def test_numpy_type_lies_in_memory_as_the_c_structure(name: str, tmp_path: Path) -> None:
    expected = layout(name, STRUCTURES[name])
    assert ask(list(expected), tmp_path) == expected


def test_kinds_flags_and_limits_have_the_numbers_of_the_header(tmp_path: Path) -> None:
    expected = {f"{prefix}{one.name}": one.value for prefix, enum in ENUMS.items() for one in enum}
    expected |= {f"{prefix}{one.name}": one.value for prefix, enum in FLAGS.items() for one in enum if one.name}
    expected |= {"FW_SMALL_BYTES": event.SMALL_BYTES, "FW_CONNECTIONS": event.CONNECTIONS_MAX}
    expected["FW_PROGRAMS"] = event.PROGRAMS
    assert ask(list(expected), tmp_path) == expected


def test_event_header_is_80_bytes_and_keeps_what_follows_aligned() -> None:
    assert event.EVENT_BYTES == 80
    assert event.EVENT_BYTES % 8 == 0
