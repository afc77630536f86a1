"""Record a real FUSE server at work, then show what it and the kernel said to each other.

    make demo          or, once that has set up the environment:  .venv/bin/python -m scripts.demo

Needs root, because it mounts. Everything it starts, mounts or attaches is gone afterwards, except the trace.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from examples.demo import mounts, possible

ROOT = Path(__file__).resolve().parent.parent
FUSEWIRE = Path(".venv/bin/fusewire")
TRACE = Path("traces/demo.pcapng")
SAMPLE = Path("docs/samples/fuseblk-sync.pcapng")  # this demo, recorded on Linux 6.18
SYNCFS_SECONDS = "0.2"  # the server takes this long to answer, so that the timeline has something to show
STEP_TIMEOUT_S = 30

WORKLOAD = """
mkdir photos
cp $OLDPWD/LICENSE photos/notes.txt
dd if=/dev/zero of=photos/big bs=64K count=8 status=none
mv photos/notes.txt photos/license.txt
cat photos/license.txt > /dev/null
ls -l photos > /dev/null
cat photos/missing 2> /dev/null || true
sync -f photos
rm photos/big
sync
"""


class DemoError(Exception):
    """A step failed; the text says which and how."""


def say(text: str) -> None:
    """Print a headline or a sentence of the story."""
    print(text, flush=True)


def run_fusewire(*words: str) -> None:
    """Run one `fusewire` command for the user to see; DemoError when it fails."""
    say(f"$ fusewire {shlex.join(words)}")
    status = subprocess.run([FUSEWIRE, *words], cwd=ROOT, check=False).returncode
    if status != 0:  # the demo's server answers everything, so there is nothing to find either
        raise DemoError(f"fusewire {words[0]} ended with status {status}")


@contextlib.contextmanager
def place_to_mount() -> Iterator[tuple[Path, list[str]]]:
    """Lend a mount point, and the server's options for the kind of mount on which this kernel shows most."""
    with contextlib.ExitStack() as cleanup:
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="fusewire-demo-")))
        mount_point = directory / "mnt"
        mount_point.mkdir()
        if (reason := possible.why_no_syncfs()) is None:
            device = cleanup.enter_context(mounts.loop_device(directory / "disk"))
            yield mount_point, ["--type", "fuseblk", "--device", device, "--syncfs", SYNCFS_SECONDS]
        else:
            say(f"No SYNCFS will be seen in this recording: {reason}.")
            yield mount_point, ["--type", "fuse"]


@contextlib.contextmanager
def recorder(server: list[str], mount_point: Path) -> Iterator[None]:
    """Keep `fusewire record` running around a server, from the mount to the unmount."""
    words = ["record", "-o", os.fspath(TRACE), "--bridge", "strace", "--snap", "listings", "--", *server]
    say(f"$ fusewire {shlex.join(words)} &")
    process = subprocess.Popen([FUSEWIRE, *words], cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        mounts.wait_mounted(mount_point, process, STEP_TIMEOUT_S)
        yield
    finally:
        mounts.unmount(mount_point)
        status = mounts.stop(process, STEP_TIMEOUT_S)
    if status != 0:
        raise DemoError(f"fusewire record ended with status {status}")


def work(mount_point: Path) -> None:
    """Use the mounted file system as anybody would; each line is a process with a deadline."""
    for line in WORKLOAD.strip().splitlines():
        say(f"$ {line}")
        script = f"cd {shlex.quote(os.fspath(mount_point))} && {line}"
        ended = mounts.run_child(["sh", "-ec", script], STEP_TIMEOUT_S)
        if ended.status != 0:
            raise DemoError(f"{line!r} ended with {ended.status}: {ended.output.decode(errors='replace')}")


def record() -> None:
    """Make the trace."""
    TRACE.parent.mkdir(exist_ok=True)
    TRACE.unlink(missing_ok=True)
    with place_to_mount() as (mount_point, options):
        server = [".venv/bin/python", "examples/demo/server.py", *options, os.fspath(mount_point)]
        with recorder(server, mount_point):
            work(mount_point)


def show(trace: Path) -> None:
    """Show a trace as lines, and its report on sync."""
    run_fusewire("show", os.fspath(trace))
    say("\nDid sync reach the server?\n")
    run_fusewire("sync", os.fspath(trace))


def offer_ui(trace: Path) -> None:
    """Ask whether to open the terminal UI; only a person at a terminal is asked."""
    command = ["open", os.fspath(trace)]
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        say(f"See it in the terminal UI: {FUSEWIRE} {shlex.join(command)}")
    elif input("Open it in the terminal UI? [Y/n] ").strip().lower() in ("", "y", "yes"):
        run_fusewire(*command)


def main() -> int:
    """Run the demo; exit status 2 when this machine cannot mount or a step fails."""
    os.chdir(ROOT)
    if (reason := possible.why_not_root() or possible.why_no_fuse()) is not None:
        print(f"demo: {reason}\nA recording to look at: {FUSEWIRE} open {SAMPLE}", file=sys.stderr)
        return 2
    try:
        say("\nRecord: a FUSE server at work, its reads and writes of /dev/fuse overheard\n")
        record()
        say("\nThe timeline: one line an exchange\n")
        show(TRACE)
        if possible.why_no_syncfs() is not None:
            say("\nThe same on Linux 6.18, from a recording: there the kernel passes sync on to the server\n")
            show(SAMPLE)
    except (DemoError, mounts.MountError) as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 2
    say("")
    offer_ui(TRACE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
