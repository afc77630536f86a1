"""What the widgets and the trace's own thread tell the screen."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from tracer.errors import TracerError
from tracer.tui.listing import Listing
from tracer.tui.timeline_model import Picture


class Latest(Message):
    """A message of which only the newest counts."""

    def can_replace(self, message: Message) -> bool:
        """Replace a message of the same kind that is still in the queue."""
        return type(message) is type(self)


@dataclass
class Grown(Latest):
    """The trace now has exchanges up to (not including) `upto`; `submount_cells` is how wide a submount prints."""

    upto: int
    submount_cells: int


class NamesKnown(Message):
    """Paths and submounts of the whole trace can be asked for now."""


@dataclass
class Progress(Latest):
    """Long work goes on, `done` of `total`, 0 when that is unknown. An empty `what`: it is done."""

    what: str
    done: int
    total: int


@dataclass
class ListingReady(Latest):
    """The exchanges that the filter lets through."""

    listing: Listing


@dataclass
class PictureReady(Latest):
    """The timeline, counted for its size."""

    picture: Picture


@dataclass
class SourceFailed(Message):
    """The file cannot be followed any more."""

    error: TracerError


@dataclass
class Selected(Latest):
    """The list's cursor is on an exchange."""

    number: int
    by_user: bool


@dataclass
class ExchangeChosen(Message):
    """Another pane asks for an exchange."""

    number: int


@dataclass
class FilterApplied(Message):
    """The user wants this filter; it compiles."""

    text: str


class FilterBarLeft(Message):
    """The user is done with the filter bar."""
