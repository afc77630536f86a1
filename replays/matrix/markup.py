"""HTML put together so that nothing can be forgotten: a text is escaped unless it is `Html` already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Html(str):
    """A piece of HTML."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str) -> Html:
    """Return an element. class_ means class, data_label data-label; an attribute without a value is left out."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value
    )
    return Html(f"<{name}{words}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Html:
    """Return texts and pieces as one piece."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))
