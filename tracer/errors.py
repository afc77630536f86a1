"""What a user can do wrong, said in one line with the next step.

Bad bytes are never an exception: they are a `Problem` on a message. A bug is a traceback.
"""


class TracerError(Exception):
    """A user's mistake, or a limit of this machine; printed by the command line alone, exit code 2.

    `hint` is the next step a user can take: a command, a flag, a place to look.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class CaptureError(TracerError):
    """A capture cannot start, or had to stop; what was captured before is kept."""


class TraceFileError(TracerError):
    """A file is not a trace this version can read, or cannot be written any further."""
