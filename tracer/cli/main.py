"""fusewire: parse the command line, run one command, say what went wrong in one line."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
import traceback

from tracer.cli.command import Command, Exit, printable, say
from tracer.errors import TracerError

# Name, then the class in tracer.cli.commands.<module>. A command's module is imported when it is run: `fusewire --help`
# must not load numpy, let alone textual.
COMMANDS = (
    ("record", "record", "Record", "record a FUSE server at work"),
    ("import", "import_log", "Import", "turn a strace log into a trace"),
    ("show", "show", "Show", "print a trace, a line an exchange, or as JSON"),
    ("open", "open_trace", "Open", "open a trace in the terminal UI"),
    ("live", "live", "Live", "record and watch in the terminal UI at once"),
    ("replay", "replay", "Replay", "play a trace against any server, and say what differs"),
    ("matrix", "matrix", "Matrix", "play a trace to many servers, and compare them in a table"),
    ("sync", "sync", "Sync", "report every FUSE_SYNCFS, per submount"),
    ("lab", "lab", "Lab", "boot a small guest with virtiofs, and see what sync does there"),
    ("doctor", "doctor", "Doctor", "what can be captured here, and what is missing"),
)

# Commands that take a file, options, and after -- a server's words, which argparse cannot tell from the file: they are
# parted off before, into `arguments.server`.
BESIDE_A_SERVER = frozenset({"replay"})

OUTPUT_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    parser, loaded = _parser(argv)
    arguments = _parsed(parser, argv) if loaded.keys() & BESIDE_A_SERVER else parser.parse_args(argv)
    command: Command | None = loaded.get(arguments.command)
    if command is None:
        parser.print_help(sys.stderr)
        return Exit.USAGE
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or locale that cannot show ◆ or a name gets \u25c6
            stream.reconfigure(errors="backslashreplace")
    try:
        code = command.run(arguments)
        sys.stdout.flush()
    except TracerError as error:
        return _fail(error)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: that is no error, but Python would say so at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FINE
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_FAULTS:
            raise
        return _fail(TracerError(f"cannot write the output: {error.strerror}", "write it where there is room"))
    return code


def run(argv: list[str] | None = None) -> int:
    """Do what `main` does; a bug is a traceback too, with an exit code that no finding has."""
    try:
        return main(argv)
    except Exception:  # whatever it is, the person who mends it needs all of it; names in it may be hostile
        sys.stderr.write(printable(traceback.format_exc()))
        print(
            f"  this is a bug in fusewire: please report it, with what you did (version {_version()})", file=sys.stderr
        )
        return Exit.BUG


def _parser(argv: list[str]) -> tuple[argparse.ArgumentParser, dict[str, Command]]:
    """Build the parser; only the command that is asked for is loaded."""
    parser = argparse.ArgumentParser(
        prog="fusewire",
        description="Wireshark for the FUSE protocol: record, decode and show what a kernel and a FUSE server say.",
        epilog="Exit codes: 0 fine, 1 a finding, 2 usage or bad input, 3 the capture lost records, 70 a bug.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    wanted = next((word for word in argv if not word.startswith("-")), "")
    loaded: dict[str, Command] = {}
    for name, module, class_name, text in COMMANDS:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == wanted:
            command = getattr(importlib.import_module(f"tracer.cli.commands.{module}"), class_name)()
            command.arguments(sub)
            loaded[name] = command
    return parser, loaded


def _parsed(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    end = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:end], argparse.Namespace(server=argv[end + 1 :]))


class _Version(argparse.Action):
    """Says the version; looking it up takes longer than all the rest of the start, so only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"fusewire {_version()}")
        parser.exit()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fusewire")
    except PackageNotFoundError:
        return "(not installed)"


def _fail(error: TracerError) -> int:
    say(error.message)
    if error.hint:
        print(f"  {printable(error.hint)}", file=sys.stderr)
    return Exit.USAGE


if __name__ == "__main__":
    sys.exit(run())
