"""The colours. Yellow belongs to SYNCFS: nothing else may use it."""

from __future__ import annotations

from textual.theme import Theme

BACKGROUND, PATH = "#0f141b", "#9ecbff"
SYNC, ENOSYS, PENDING, ERROR, WRITTEN = "#ffd33d", "#d2a8ff", "#ff9e3d", "#ff6b6b", "#39c5cf"

DARK = Theme(
    name="fusewire",
    primary="#58a6ff",
    secondary=WRITTEN,
    accent=SYNC,
    warning=PENDING,
    error=ERROR,
    success="#56d364",
    foreground="#d5dde6",
    background=BACKGROUND,
    surface="#161d26",
    panel="#1c2530",
    dark=True,
    variables={
        "text-muted": "#7d8a99",
        "line": "#3a4756",
        "cursor": "#1f4a7a",
        "cursor-away": "#243140",
        "path": PATH,
        "sync-row": "#3a3210",
        "everyday": "#a3686b",
        "enosys": ENOSYS,
        "pending": PENDING,
        "pending-row": "#43290e",
        "first-row": "#3a1a20",
        "unsent": "#a5794a",
        "sign-sync": f"bold {BACKGROUND} on {SYNC}",
        "sign-pending": f"bold {BACKGROUND} on {PENDING}",
        "sign-enosys": f"bold {BACKGROUND} on {ENOSYS}",
        "sign-failed": f"bold {BACKGROUND} on {ERROR}",
        "sign-written": WRITTEN,
        "sign-active": "#7d8a99",
        "footer-key-foreground": SYNC,
        "footer-background": "#1c2530",
        "footer-description-foreground": "#7d8a99",
    },
)
