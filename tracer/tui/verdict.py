"""Why a row is as it is: the rule that was broken, its reason, and both values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text
from textual.widgets import Static

from replays.results.outcome import KeptDifference
from replays.results.sides import Mark
from tracer.tui.replay_rows import SIGNS, SideLine, instead_of_live

WIDE_CELLS = 110


class Verdict(Static):
    """A few lines about the row under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._line: SideLine | None = None
        self._differences: Sequence[KeptDifference] = ()
        self._place = ""

    def show(self, line: SideLine | None, differences: Sequence[KeptDifference], place: str) -> None:
        """Show what there is to say of a row; `place` says where it stands among the others: "2 of 5"."""
        self._line, self._differences, self._place = line, differences, place
        self.redraw()

    def on_resize(self) -> None:
        """Use the new width."""
        self.redraw()

    def redraw(self) -> None:
        """Draw it, as much as fits."""
        self.border_title = Text(self._title())
        room = max(1, self.size.height)
        lines = list(self._lines())
        if len(lines) > room:
            hidden = len(lines) - room + 1
            lines = [*lines[: room - 1], Text(f"… {hidden} lines more: s shows the report", self._colour("text-muted"))]
        self.update(Text("\n", no_wrap=True, overflow="ellipsis").join(lines))

    def _colour(self, name: str) -> str:
        return self.app.theme_variables[name]

    def _title(self) -> str:
        line = self._line
        if line is None:
            return ""
        sign = SIGNS.get(line.mark, "")
        return f"{sign} {self._place}".strip() if self._place else f"{sign} {line.one.opcode}".strip()

    def _lines(self) -> Iterator[Text]:
        line = self._line
        if line is None:
            return
        if self._differences:
            for difference in self._differences:
                yield from self._difference(difference, line.one.path)
        elif line.mark is Mark.NOT_SENT:
            yield Text(instead_of_live(line), self._colour("warning"))
        elif line.mark is Mark.ADDED:
            yield Text("the recording has no such request: it was sent to learn an id, or as a part of a large one")
        elif line.mark is Mark.ONE_SIDED:
            yield Text("the recorded server sent it of its own accord: the live one has its own")
        else:
            yield Text("no difference by any rule that counts", self._colour("success"))

    def _difference(self, one: KeptDifference, path: str) -> Iterator[Text]:
        """Yield rule and reason, what it is about unless that is `path`, and both values: beside them if they fit."""
        is_first = one.follower_of is None
        strong = f"bold {self._colour('error')}" if is_first else self._colour("text-muted")
        rule = Text()
        rule.append(one.rule, strong)
        rule.append(f"  {one.reason}", "" if is_first else self._colour("text-muted"))
        if one.path not in ("", path):
            rule.append(f"  {one.path}", self._colour("path"))
        if not is_first:
            rule.append(f"  · follows from #{one.follower_of}", self._colour("warning"))
        values = list(self._values(one))
        beside = Text("  ").join([Text(), *values])
        if values and rule.cell_len + beside.cell_len + 1 <= self.size.width and self.size.width >= WIDE_CELLS:
            yield Text(" ").join([rule, beside])
            return
        yield rule
        if values:
            yield from [beside] if beside.cell_len <= self.size.width else [Text("  ") + value for value in values]

    def _values(self, one: KeptDifference) -> Iterator[Text]:
        """Yield what either side said, the recorded one after the field's name."""
        muted = self._colour("text-muted")
        field = f"{one.field} " if one.field not in ("", one.rule) else ""
        for name, value, colour in (("recorded", one.recorded, "success"), ("live", one.live, "error")):
            if value:
                text = Text(field, self._colour("path")) if name == "recorded" else Text()
                yield text.append(f"{name} ", muted).append(value, self._colour(colour))
