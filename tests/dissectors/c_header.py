"""Asks the C compiler what <linux/fuse.h> of this machine says: sizes, offsets, constants, enumerators."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

INCLUDES = (
    "stddef.h",
    "stdio.h",
    "linux/fuse.h",
    "asm/fcntl.h",
    "linux/falloc.h",
    "linux/stat.h",
    "linux/eventpoll.h",
    "linux/fs.h",
    "linux/xattr.h",
)
PROLOGUE = "#define _GNU_SOURCE\n" + "".join(f"#include <{name}>\n" for name in INCLUDES)
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def preprocess(*options: str) -> str:
    """Return what the preprocessor makes of the headers."""
    assert COMPILER is not None
    command = [COMPILER, "-E", *options, "-"]
    return subprocess.run(command, input=PROLOGUE, capture_output=True, text=True, check=True, timeout=60).stdout


def macros() -> set[str]:
    """Return the names of all macros without arguments."""
    return set(re.findall(r"(?m)^#define (\w+) ", preprocess("-dM")))


def structures() -> set[str]:
    """Return the names of FUSE's structures."""
    return set(re.findall(r"struct\s+((?:fuse|cuse)_\w+)\s*\{", preprocess()))


def enumerators(enum: str) -> dict[str, str]:
    """Return the names of an enum's members, with what is written behind each."""
    found = re.search(rf"enum {enum}\s*\{{([^}}]*)\}}", preprocess())
    assert found is not None, enum
    return dict(re.findall(r"(\w+)\s*=\s*(\w+)", found.group(1)))


def evaluate(expressions: Iterable[str], directory: Path) -> dict[str, int]:
    """Compile and run a program that prints the value of each C expression."""
    wanted = list(dict.fromkeys(expressions))
    lines = [f'  printf("%llu\\n", (unsigned long long)({expression}));' for expression in wanted]
    source = directory / "print.c"
    source.write_text(PROLOGUE + "int main(void)\n{\n" + "\n".join(lines) + "\n  return 0;\n}\n")
    binary = directory / "print"
    assert COMPILER is not None
    subprocess.run([COMPILER, "-w", "-o", str(binary), str(source)], check=True, timeout=60)
    output = subprocess.run([str(binary)], capture_output=True, text=True, check=True, timeout=60).stdout
    return dict(zip(wanted, map(int, output.split()), strict=True))
