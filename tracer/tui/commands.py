"""Every command of the UI, once: bindings, footer, help screen and command palette come from this table."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Command:
    """Something a user can do. `action` is the method `action_...` of the main screen."""

    id: str
    keys: str  # as textual names them, separated by commas
    label: str  # how the key is written; of a pair of commands the first one names both
    footer: str  # a word for the footer, empty to leave it out
    title: str  # in the command palette
    help: str
    action: str


COMMANDS = (
    Command("help", "question_mark,f1", "?", "Help", "Help", "Show all keys and signs.", "help"),
    Command("filter", "slash", "/", "Filter", "Filter", "Show only the exchanges that match an expression.", "filter"),
    Command("next_sync", "n", "n/N", "Sync", "Next SYNCFS", "Go to the next SYNCFS.", "sync_step(1)"),
    Command("previous_sync", "N", "N", "", "Previous SYNCFS", "Go to the SYNCFS before.", "sync_step(-1)"),
    Command("report", "s", "s", "Report", "Sync report", "Did sync reach the server, per submount?", "sync_report"),
    Command("follow", "f", "f", "Follow", "Follow", "Stay with the newest exchange as the trace grows.", "follow"),
    Command("time", "t", "t", "Time", "Time format", "Times as clock, since the start, since the row before.", "time"),
    Command("go_to", "colon,ctrl+g", ":", "Go to", "Go to exchange", "Go to an exchange by its number.", "go_to"),
    Command("into", "enter", "enter", "Fields", "Next step in", "From the list to its fields, then to bytes.", "into"),
    Command("quit", "q,ctrl+q", "q", "Quit", "Quit", "Leave.", "quit"),
    Command(
        "zoom_in", "plus,equals_sign", "+/-", "Zoom", "Zoom in", "Look closer at the timeline's cursor.", "zoom(1)"
    ),
    Command("zoom_out", "minus", "-", "", "Zoom out", "See more of the timeline.", "zoom(-1)"),
    Command("zoom_all", "0", "0", "", "Whole time", "See the whole time on the timeline.", "zoom(0)"),
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


def bindings() -> list[BindingType]:
    """Return the key bindings of the main screen."""
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
        for command in COMMANDS
    ]
