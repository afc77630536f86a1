"""fusewire doctor says what is true of this machine."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tracer.bridges.ebpf.possible import why_no_ebpf

DOCTOR = (sys.executable, "-m", "tracer.cli.main", "doctor", "--json")
NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def checked(*before: str) -> dict[str, dict[str, str]]:
    ended = subprocess.run([*before, *DOCTOR], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    return {check["name"]: check for check in json.loads(ended.stdout)}


def test_ebpf_is_said_to_work_exactly_where_it_loads() -> None:
    check = checked()["eBPF"]
    assert (check["verdict"] == "ok") is (why_no_ebpf() is None)


def test_without_capabilities_the_missing_one_and_the_way_to_grant_it_are_named() -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can give capabilities away")
    check = checked(*NO_CAPABILITIES)["eBPF"]
    assert check["verdict"] == "limited"
    assert "CAP_BPF" in check["fact"]
    assert "setpriv" in check["mend"]


def test_the_tap_and_the_lab_are_said_to_work_where_they_do() -> None:
    checks = checked()
    assert (checks["virtqueue"]["verdict"] == "ok") is (platform.machine() == "x86_64")
    is_ready = os.geteuid() == 0 and shutil.which("qemu-system-x86_64") is not None
    assert (checks["lab"]["verdict"] == "ok") is is_ready


def test_without_qemu_doctor_names_its_package(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("who is not root hears first that the lab needs root")
    check = checked("env", f"PATH={tmp_path}")["lab"]
    assert check["verdict"] == "limited"
    assert "qemu-system-x86" in check["mend"]
