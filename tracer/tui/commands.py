"""Every command of the UI, once: bindings, footer, help screen and command palette come from this table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto

from textual.binding import Binding, BindingType


class Place(Flag):
    """Which screens a command is for."""

    TRACE = auto()  # one trace
    REPLAY = auto()  # both sides of a replay
    BOTH = TRACE | REPLAY


@dataclass(frozen=True, slots=True)
class Command:
    """Something a user can do. `action` is the method `action_...` of the screens it is for."""

    id: str
    keys: str  # as textual names them, separated by commas
    label: str  # how the key is written; of a pair of commands the first one names both
    footer: str  # a word for the footer, empty to leave it out
    title: str  # in the command palette
    help: str
    action: str
    place: Place = Place.BOTH


TRACE, REPLAY = Place.TRACE, Place.REPLAY
COMMANDS = (
    Command("help", "question_mark,f1", "?", "Help", "Help", "Show all keys and signs.", "help"),
    Command("filter", "slash", "/", "Filter", "Filter", "Show only the exchanges that match an expression.", "filter"),
    Command("next_sync", "n", "n/N", "Sync", "Next SYNCFS", "Go to the next SYNCFS.", "sync_step(1)", TRACE),
    Command("previous_sync", "N", "N", "", "Previous SYNCFS", "Go to the SYNCFS before.", "sync_step(-1)", TRACE),
    Command(
        "report", "s", "s", "Report", "Sync report", "Did sync reach the server, per submount?", "sync_report", TRACE
    ),
    Command(
        "follow", "f", "f", "Follow", "Follow", "Stay with the newest exchange as the trace grows.", "follow", TRACE
    ),
    Command(
        "time", "t", "t", "Time", "Time format", "Times as clock, since the start, since the row before.", "time", TRACE
    ),
    Command(
        "next_difference",
        "n",
        "n/N",
        "Difference",
        "Next difference",
        "Go to the next difference that follows from no other.",
        "difference_step(1)",
        REPLAY,
    ),
    Command(
        "previous_difference",
        "N",
        "N",
        "",
        "Previous difference",
        "Go to the difference before that follows from no other.",
        "difference_step(-1)",
        REPLAY,
    ),
    Command("cause", "c", "c", "Cause", "Cause", "From a difference to the one it follows from.", "cause", REPLAY),
    Command(
        "only", "d", "d", "Only ≠", "Differences only", "Show only rows that differ, or all again.", "only", REPLAY
    ),
    Command(
        "followers",
        "f",
        "f",
        "Hide ≈",
        "Followers",
        "Leave out the differences that follow from an earlier one, or show them again.",
        "followers",
        REPLAY,
    ),
    Command(
        "other_side",
        "o",
        "o",
        "Side",
        "Other side",
        "Go to the fields of the other side; a narrow terminal shows one at a time.",
        "other_side",
        REPLAY,
    ),
    Command(
        "replay_report", "s", "s", "Report", "Replay report", "Show the report that the replay gave.", "report", REPLAY
    ),
    Command("go_to", "colon,ctrl+g", ":", "Go to", "Go to exchange", "Go to an exchange by its number.", "go_to"),
    Command(
        "into", "enter", "enter", "Fields", "Next step in", "From the list to its fields, then to bytes.", "into", TRACE
    ),
    Command("fields", "enter", "enter", "Fields", "Fields", "From the list to the fields, and back.", "into", REPLAY),
    Command("quit", "q,ctrl+q", "q", "Quit", "Quit", "Leave.", "quit"),
    Command(
        "zoom_in",
        "plus,equals_sign",
        "+/-",
        "Zoom",
        "Zoom in",
        "Look closer at the timeline's cursor.",
        "zoom(1)",
        TRACE,
    ),
    Command("zoom_out", "minus", "-", "", "Zoom out", "See more of the timeline.", "zoom(-1)", TRACE),
    Command("zoom_all", "0", "0", "", "Whole time", "See the whole time on the timeline.", "zoom(0)", TRACE),
    Command("pane", "z", "z", "Full pane", "Full pane", "Give the focused pane the screen, or take it back.", "pane"),
    Command("top", "g", "g", "", "First exchange", "Go to the first exchange.", "edge(-1)"),
    Command("bottom", "G", "G", "", "Last exchange", "Go to the last exchange.", "edge(1)"),
    Command("next_pane", "tab", "tab", "", "Next pane", "Go to the next pane.", "focus_pane(1)"),
    Command("last_pane", "shift+tab", "⇧tab", "", "Previous pane", "Go to the pane before.", "focus_pane(-1)"),
    Command("back", "escape", "esc", "", "Back to the list", "Go to the list; close what is open.", "back"),
)

# Keys that mean the same in every pane; the panes bind them themselves.
MOVEMENT = (
    ("↑ ↓  k j", "one row"),
    ("PgUp PgDn", "one page"),
    ("Home End", "first and last row"),
    ("← →", "timeline: one column in time; bytes: one byte"),
    ("mouse", "click a row, a field, a byte or a mark on the timeline"),
)


def commands_for(place: Place) -> tuple[Command, ...]:
    """Return the commands of a kind of screen."""
    return tuple(command for command in COMMANDS if place in command.place)


def bindings(place: Place) -> list[BindingType]:
    """Return the key bindings of a kind of screen."""
    return [
        Binding(
            command.keys,
            command.action,
            command.footer or command.title,
            show=bool(command.footer),
            key_display=command.label,
            tooltip=command.help,
            id=command.id,
        )
        for command in commands_for(place)
    ]
