"""Builds the eBPF object with clang, where there is clang, and puts it into the wheel; also run as a program.

Whoever installs a wheel needs no compiler. A build without clang goes on: the eBPF bridge then says what is missing.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BRIDGE = Path(__file__).resolve().parent / "tracer" / "bridges" / "ebpf"
SOURCES = BRIDGE / "bpf"
OBJECT = BRIDGE / "fusewire.bpf.o"
HEADERS = Path("/usr/include/bpf/bpf_helpers.h")
# machine -> the name libbpf's headers and ours know the processor by
TARGETS = {"x86_64": "x86", "aarch64": "arm64"}
INSTALL = "apt-get install clang libbpf-dev"


def why_not() -> str | None:
    """Return why the object cannot be built here; None if it can."""
    if platform.system() != "Linux" or platform.machine() not in TARGETS:
        return f"{platform.system()} on {platform.machine()} is not known to it"
    if shutil.which("clang") is None:
        return f"there is no clang ({INSTALL})"
    if not HEADERS.exists():
        return f"there are no headers of libbpf ({INSTALL})"
    return None


def compile_object(target: Path) -> None:
    """Compile the object. Raises CalledProcessError, after clang has said what is wrong."""
    processor = TARGETS[platform.machine()]
    # -mcpu=v3 is what Linux 5.1 understands: jumps on 32-bit halves, which keep the verifier's work small
    options = ["-g", "-O2", "-mcpu=v3", "-Wall", "-Werror", "-target", "bpf", f"-D__TARGET_ARCH_{processor}"]
    scratch = target.with_suffix(".new")
    command = ["clang", *options, "-fdebug-compilation-dir=.", "-c", "fusewire.bpf.c", "-o", str(scratch)]
    subprocess.run(command, cwd=SOURCES, check=True)
    if strip := shutil.which("llvm-strip"):
        subprocess.run([strip, "-g", str(scratch)], check=True)  # the kernel reads BTF; DWARF is twice as large
    scratch.replace(target)


class ObjectBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles before a wheel, or an editable install, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the object, or say why not."""
        if self.target_name != "wheel":
            return
        if (reason := why_not()) is not None:
            self.app.display_warning(f"The eBPF bridge is left out: {reason}")
            return
        compile_object(OBJECT)
        if version == "editable":
            return
        build_data["artifacts"].append(f"/{OBJECT.relative_to(Path(self.root).resolve())}")
        build_data["pure_python"] = False
        # the object fits one processor, any Python and any libc: it is linked against nothing
        build_data["tag"] = f"py3-none-manylinux_2_17_{platform.machine()}"


def main() -> int:
    """Build the object into the checkout."""
    if (reason := why_not()) is not None:
        sys.stderr.write(f"The eBPF bridge is left out: {reason}\n")
        OBJECT.unlink(missing_ok=True)  # of other sources than these
        return 0
    compile_object(OBJECT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
