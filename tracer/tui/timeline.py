"""Draws the timeline: time runs to the right, a lane per submount, and no SYNCFS can be overlooked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from tracer.output.style import byte_count, clock, duration
from tracer.tui.axis import axis_text
from tracer.tui.density import Window
from tracer.tui.messages import ExchangeChosen
from tracer.tui.rows import Rows, fit, fit_path
from tracer.tui.styled import Styled
from tracer.tui.timeline_model import Bar, LanePicture, Outcome, Picture

LEVELS = " ▁▂▃▄▅▆▇█"
SIGNS = {Outcome.DONE: "◆", Outcome.ENOSYS: "◇", Outcome.FAILED: "✗", Outcome.PENDING: "◆"}
STYLE_OF = {Outcome.DONE: "sync", Outcome.ENOSYS: "enosys", Outcome.FAILED: "failed", Outcome.PENDING: "pending"}
SIGN_STYLES = frozenset(STYLE_OF.values())
LEGEND = "◆ SYNCFS  ◇ ENOSYS  ✗ failed  ◆━▶ pending  ▂▅█ WRITE"
ZOOM = 2.0
Cell = tuple[str, str]  # a character and the name of its style
AXIS_LINES = 1


class Timeline(Styled, can_focus=True):
    """The drawing. It asks for a picture by WindowChanged and gets it by `show`."""

    class WindowChanged(Message):
        """Another stretch of time, or another width, has to be counted."""

    PREFIX = "timeline"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"timeline--{name}"
        for name in (
            "label",
            "current-label",
            "sync",
            "enosys",
            "failed",
            "pending",
            "sync-caption",
            "enosys-caption",
            "failed-caption",
            "pending-caption",
            "bar",
            "open-bar",
            "written",
            "active",
            "error",
            "cursor",
            "axis",
        )
    }

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "column(-1)", "Earlier", show=False),
        Binding("right,l", "column(1)", "Later", show=False),
        Binding("up,k", "lane(-1)", "Lane up", show=False),
        Binding("down,j", "lane(1)", "Lane down", show=False),
    ]

    def __init__(self, rows: Rows, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows = rows
        self.picture: Picture | None = None
        self.window: Window | None = None
        self.number = -1
        self._t_ns = 0
        self._lane_index = -1
        self._top_lane = 0
        self._start_ns = 0
        self._upto = 0

    # ---- what it shows ---------------------------------------------------------------------------------------------

    @property
    def label_width(self) -> int:
        """Cells for the names of the lanes."""
        return 18 if self.size.width < 110 else 30

    @property
    def columns(self) -> int:
        """Cells for time."""
        return max(0, self.size.width - self.label_width - 1)

    @property
    def lane_height(self) -> int:
        """Lines of a lane: two where there is room, the upper one for SYNCFS alone."""
        lanes = len(self.picture.lanes) if self.picture else 1
        return 2 if self.size.height >= 2 * lanes + AXIS_LINES else 1

    @property
    def lanes_in_sight(self) -> int:
        """How many lanes fit."""
        return max(1, (self.size.height - AXIS_LINES) // self.lane_height)

    def show(self, picture: Picture, upto: int) -> None:
        """Draw a picture of a trace with `upto` exchanges."""
        self.picture, self._upto = picture, upto
        self._start_ns = self._rows.time_ns(0) if upto else picture.window.start_ns
        self._keep_lane_in_sight()
        self._say_what_is_hidden()
        self.refresh()

    def select(self, number: int, lane_index: int) -> None:
        """Show where an exchange lies; the window follows it."""
        self.number, self._lane_index = number, lane_index
        if number >= 0:
            self._t_ns = self._rows.time_ns(number)
            if self.window is not None and self.window != (moved := self.window.moved_to_hold(self._t_ns)):
                self._look_at(moved)
        self._keep_lane_in_sight()
        self.refresh()

    def on_mount(self) -> None:
        """Explain the signs."""
        self._say_what_is_hidden()

    def zoom(self, direction: int) -> None:
        """Look closer (1), see more (-1) or all (0)."""
        if self.picture is None:
            return
        if direction == 0:
            self._look_at(None)
            return
        window = self.picture.window.zoomed(self._t_ns, 1 / ZOOM if direction > 0 else ZOOM)
        is_all = direction < 0 and (self.window is None or window.length_ns >= self._whole_ns)
        self._look_at(None if is_all else window)

    def _look_at(self, window: Window | None) -> None:
        if self.window is None and self.picture is not None:
            self._whole_ns = self.picture.window.length_ns
        self.window = window
        self.post_message(self.WindowChanged())

    _whole_ns = 0

    def on_resize(self) -> None:
        """Ask for a picture of the new width."""
        self._keep_lane_in_sight()
        self._say_what_is_hidden()
        self.post_message(self.WindowChanged())

    def _keep_lane_in_sight(self) -> None:
        lanes = self.picture.lanes if self.picture else ()
        place = next((at for at, one in enumerate(lanes) if one.lane.index == self._lane_index), 0)
        fitting = self.lanes_in_sight
        self._top_lane = max(0, min(max(self._top_lane, place - fitting + 1), place, len(lanes) - fitting))

    def _say_what_is_hidden(self) -> None:
        lanes = len(self.picture.lanes) if self.picture else 0
        zoom = "" if self.picture is None or self.picture.is_whole else "  zoomed, 0 shows all"
        hidden = f"  {lanes} submounts, ↑↓ for more" if lanes > self.lanes_in_sight else ""
        self.border_title = Text(f"{LEGEND}{hidden}{zoom}")

    # ---- moving ----------------------------------------------------------------------------------------------------

    def action_column(self, direction: int) -> None:
        """Go to the next moment at which anything happens."""
        if self.picture is None or not self._upto:
            return
        busy = sum((one.requests for one in self.picture.lanes), np.zeros(self.picture.columns)) > 0
        here = self.picture.column_of(self._t_ns)
        later = np.flatnonzero(busy[here + 1 :]) + here + 1
        earlier = np.flatnonzero(busy[: max(0, here)])
        if direction > 0 and len(later):
            self._choose(int(later[0]), None)
        elif direction < 0 and len(earlier):
            self._choose(int(earlier[-1]), None)

    def action_lane(self, direction: int) -> None:
        """See another lane."""
        lanes = self.picture.lanes if self.picture else ()
        self._top_lane = max(0, min(self._top_lane + direction, len(lanes) - self.lanes_in_sight))
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Go to the SYNCFS or to the moment that was clicked."""
        place = event.get_content_offset(self)
        if place is None or self.picture is None or not self._upto:
            return
        column = place.x - self.label_width - 1
        lane = self._lane_at(place.y)
        if 0 <= column < self.picture.columns:
            self._choose(column, lane)

    def _choose(self, column: int, lane: LanePicture | None) -> None:
        """Ask for the SYNCFS in a column, if there is one, or for what comes first in it."""
        assert self.picture is not None
        for one in (lane,) if lane is not None else self.picture.lanes:
            near = [column, column - 1, column + 1] if lane is not None else [column]
            marks = [at for at in near if 0 <= at < self.picture.columns and one.mark_numbers[at] >= 0]
            if marks:
                self.post_message(ExchangeChosen(int(one.mark_numbers[marks[0]])))
                return
        t_ns = self.picture.window.time(column, self.picture.columns)
        self.post_message(ExchangeChosen(self._rows.first_at(t_ns, self._upto)))

    def _lane_at(self, y: int) -> LanePicture | None:
        lanes = self.picture.lanes if self.picture else ()
        at = self._top_lane + y // self.lane_height
        return lanes[at] if at < len(lanes) and y < self.size.height - AXIS_LINES else None

    # ---- drawing ---------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        base, width = self.base, self.size.width
        if self.picture is None:
            return Strip.blank(width, base)
        if y == self.size.height - AXIS_LINES:
            return self._axis(self.picture).adjust_cell_length(width, base)
        lane = self._lane_at(y)
        if lane is None:
            return Strip.blank(width, base)
        is_upper, is_single = y % self.lane_height == 0, self.lane_height == 1
        label = self._label(lane) if is_upper else self._amount(lane)
        cells = self._single(lane) if is_single else self._signs(lane) if is_upper else self._activity(lane)
        return Strip([*label, Segment("│", self.style("axis")), *self._with_cursor(cells)]).adjust_cell_length(
            width, base
        )

    def _with_cursor(self, cells: list[Cell]) -> Iterator[Segment]:
        """Turn (character, style name) cells into segments, the cursor's column marked."""
        cursor = self.picture.column_of(self._t_ns) if self.picture and self.number >= 0 else -1
        mark = self.overlay("cursor")
        for at, (character, name) in enumerate(cells[: self.columns]):
            style = self.style(name) if name else self.base
            # A sign keeps its colour: the cursor must not hide what it points at.
            yield Segment(character, style + mark if at == cursor and name not in SIGN_STYLES else style)

    def _label(self, lane: LanePicture) -> list[Segment]:
        """Name the lane and count its SYNCFS by how they ended."""
        counts = [
            (f"{SIGNS[kind]}{'…' if kind is Outcome.PENDING else ''}{count}", STYLE_OF[kind])
            for kind, count in lane.outcomes.items()
            if count
        ]
        room = self.label_width - sum(len(text) + 1 for text, _ in counts)
        is_current = lane.lane.index == self._lane_index
        label = self.style("current-label" if is_current else "label")
        segments = [Segment(fit_path(lane.lane.label, max(1, room)), label)]
        for text, name in counts:
            segments += [Segment(" ", label), Segment(text, self.style(name))]
        return segments

    def _amount(self, lane: LanePicture) -> list[Segment]:
        written = float(lane.written_bytes.sum())
        text = f"  {byte_count(int(written))} written" if written else ""
        return [Segment(fit(text, self.label_width), self.style("axis"))]

    def _activity(self, lane: LanePicture) -> list[Cell]:
        """Draw bytes written as bars, anything else that happened as dots."""
        assert self.picture is not None
        most = self.picture.most_written or 1.0
        levels = np.ceil(np.sqrt(lane.written_bytes / most) * (len(LEVELS) - 1)).astype(int).tolist()
        requests, errors = (lane.requests > 0).tolist(), (lane.errors > 0).tolist()
        return [
            (LEVELS[level], "error" if error else "written")
            if level
            else ("!", "error")
            if error
            else ("·", "active")
            if request
            else (" ", "")
            for level, request, error in zip(levels, requests, errors, strict=True)
        ]

    def _signs(self, lane: LanePicture) -> list[Cell]:
        """Draw each SYNCFS: a sign where it was sent, a bar until it was answered, and how long that took."""
        cells = [(" ", "")] * len(lane.bars)
        bars, marks = lane.bars.tolist(), lane.marks.tolist()
        for at, bar in enumerate(bars):
            if bar:
                cells[at] = ("━", "bar" if bar == Bar.ANSWERED else "open-bar")
        if bars and bars[-1] == Bar.OPEN:
            cells[-1] = ("▶", "open-bar")
        for at in np.flatnonzero(lane.marks).tolist():
            cells[at] = (SIGNS[Outcome(marks[at])], STYLE_OF[Outcome(marks[at])])
            _write(cells, at, bars, Outcome(marks[at]), int(lane.mark_latency_ns[at]))
        return cells

    def _single(self, lane: LanePicture) -> list[Cell]:
        """Draw both in one line: signs and bars over the activity."""
        cells = self._activity(lane)
        for at, bar in enumerate(lane.bars.tolist()):
            if bar:
                character = cells[at][0] if cells[at][0] in LEVELS[1:] else "━"
                cells[at] = (character, "bar" if bar == Bar.ANSWERED else "open-bar")
        if len(cells) and lane.bars[-1] == Bar.OPEN:
            cells[-1] = ("▶", "open-bar")
        for at in np.flatnonzero(lane.marks).tolist():
            outcome = Outcome(int(lane.marks[at]))
            cells[at] = (SIGNS[outcome], STYLE_OF[outcome])
        return cells

    def _axis(self, picture: Picture) -> Strip:
        style = self.style("axis")
        start = clock(picture.window.start_ns, picture.has_times)
        text = axis_text(picture.window, picture.columns, self._start_ns, picture.has_times)
        cursor = picture.column_of(self._t_ns) if self.number >= 0 else -1
        segments = [Segment(fit(start, self.label_width), style), Segment("└", style)]
        if cursor >= 0:
            segments += [Segment(text[:cursor], style), Segment("▲", self.style("current-label"))]
            segments.append(Segment(text[cursor + 1 :], style))
        else:
            segments.append(Segment(text, style))
        return Strip(segments)


def _caption(outcome: Outcome, latency_ns: int) -> str:
    if outcome is Outcome.PENDING:
        return "pending"
    if outcome is Outcome.ENOSYS:
        return "ENOSYS"
    took = duration(latency_ns) if latency_ns >= 0 else "lost"
    return f"failed {took}" if outcome is Outcome.FAILED else took


def _write(cells: list[Cell], at: int, bars: list[int], outcome: Outcome, latency_ns: int) -> None:
    """Write a caption after the bar that begins at `at`, or into the bar, where nothing else is."""
    caption = _caption(outcome, latency_ns)
    behind = next((place for place in range(at + 1, len(bars)) if not bars[place]), len(bars))
    inside = (at + 2, "━", "open-bar" if bars[at] == Bar.OPEN else "bar")
    for start, free, style in ((behind + 1, " ", f"{STYLE_OF[outcome]}-caption"), inside):
        end = start + len(caption)
        if end < len(cells) and all(cells[place][0] == free for place in range(start, end + 1)):
            cells[start:end] = [(character, style) for character in caption]
            return
