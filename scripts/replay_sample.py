"""Make the samples docs/samples/replay-recorded.pcapng and replay-live.pcapng: one real server, and another beside it.

    sudo .venv/bin/python -m scripts.replay_sample

Recorded is libfuse's passthrough_ll at a small piece of work. It is replayed into another passthrough_ll that was
started without extended attributes, on files that somebody had changed, by a kernel that knows no READDIRPLUS: so it
shows differences, what follows from them, requests that are not sent, and some that are added.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from examples.demo import mounts, possible

PLACE = Path("/srv/fusewire-sample")  # its name is told in the samples
SAMPLES = Path(__file__).resolve().parent.parent / "docs/samples"
FUSEWIRE = (
    sys.executable,
    "-c",
    "import sys; from tracer.cli.main import run; sys.argv[0] = 'fusewire'; sys.exit(run())",
)
TIMEOUT_S = 30
WORK = """
ls -l . > /dev/null
sleep 1.2  # until the kernel asks for attributes again
stat hello.txt script.sh > /dev/null
cat hello.txt dir/inner.txt > /dev/null
cat no-such-file 2> /dev/null || true
mkdir work
echo "some words" > work/notes.txt
setfattr -n user.colour -v blue work/notes.txt
getfattr --only-values -n user.colour work/notes.txt > /dev/null
mv work/notes.txt work/moved.txt
chmod 600 work/moved.txt
stat work/moved.txt dir/inner.txt > /dev/null
ls work > /dev/null
sleep 1.2
stat hello.txt script.sh > /dev/null
rm -r work
"""


def seed(source: Path) -> None:
    """Make the files that both servers show."""
    (source / "dir").mkdir(parents=True)
    (source / "hello.txt").write_text("hello from the recorded server\n")
    (source / "dir/inner.txt").write_text("inside\n")
    (source / "script.sh").write_text("echo run me\n")
    (source / "script.sh").chmod(0o755)


def change(source: Path) -> None:
    """Let somebody have been there before the replay."""
    (source / "hello.txt").write_text("hello from another server\n")
    (source / "dir/inner.txt").unlink()
    (source / "script.sh").chmod(0o644)


def record(program: Path) -> None:
    """Record the work."""
    mount_point = PLACE / "mnt"
    mount_point.mkdir()
    server = [str(program), "-f", "-o", f"source={PLACE}/recorded,xattr", str(mount_point)]
    words = ["record", "-o", "replay-recorded.pcapng", "--snap", "all", "--bridge", "ebpf", "--", *server]
    recorder = subprocess.Popen([*FUSEWIRE, *words], cwd=PLACE, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        mounts.wait_mounted(mount_point, recorder, TIMEOUT_S)
        ended = mounts.run_child(["sh", "-ec", f"cd {mount_point}\n{WORK}"], TIMEOUT_S)
    finally:
        mounts.unmount(mount_point)
        status = mounts.stop(recorder, TIMEOUT_S)
    if ended.status != 0 or status != 0:
        sys.exit(f"the work ended with {ended.status}, the recorder with {status}: {ended.output!r}")


def replay(program: Path) -> None:
    """Play it against the other server."""
    server = [str(program), "-f", "-o", f"source={PLACE}/live", "/mnt"]
    words = ["replay", "replay-recorded.pcapng", "-o", "replay-live.pcapng", "--allow-writes"]
    words += ["--init", "flags-=DO_READDIRPLUS", "--", *server]
    status = subprocess.run([*FUSEWIRE, *words], cwd=PLACE, timeout=TIMEOUT_S, check=False).returncode
    if status != 1:
        sys.exit(f"the replay ended with {status}; differences would be 1")


def main() -> None:
    """Make both."""
    from tests.servers import compiled

    reason = possible.why_not_root() or possible.why_no_fuse() or compiled.why_not()
    reason = reason or possible.why_no_program("setfattr", "attr")
    if reason is not None:
        sys.exit(f"replay_sample: {reason}")
    PLACE.mkdir()
    try:
        program = Path(shutil.copy(compiled.passthrough_ll(), PLACE / "passthrough_ll"))
        seed(PLACE / "recorded")
        record(program)
        seed(PLACE / "live")
        change(PLACE / "live")
        replay(program)
        for name in ("replay-recorded.pcapng", "replay-live.pcapng"):
            shutil.copyfile(PLACE / name, SAMPLES / name)
    finally:
        shutil.rmtree(PLACE)


if __name__ == "__main__":
    main()
