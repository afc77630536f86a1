"""The matrix as JSON values; docs/matrix.md says what each name holds."""

from __future__ import annotations

from typing import Any

from dissectors.text import escape
from replays.matrix.result import Matrix, Row, cells, column_name, columns, requests_per_second
from replays.results.report_json import report_json
from tracer.output.style import escape_text

VERSION = 1  # of the names and what they hold


def matrix_json(matrix: Matrix) -> dict[str, Any]:
    """Return everything, each server's whole replay too. Texts from outside are escaped."""
    facts = matrix.trace
    return {
        "version": VERSION,
        "finding": matrix.has_finding,
        "jobs": matrix.jobs,
        "trace": {
            "path": _path(facts.path),
            "channel": escape_text(facts.channel),
            "server_command": escape_text(facts.server_command) or None,
            "kernel": escape_text(facts.kernel) or None,
            "requests": facts.request_count,
        },
        "opcodes": [column_name(opcode) for opcode in columns(matrix.rows)],
        "servers": [_row_json(row) for row in matrix.rows],
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "name": escape_text(row.server),
        "verdict": row.verdict.value,
        "why": escape_text(row.why) or None,
        "command": [escape_text(word) for word in row.command],
        "version": escape_text(row.version) or None,
        "reached_by": escape_text(row.how) or None,
        "live_trace": _path(row.live) if row.live is not None else None,
        "requests_per_second": None if row.report is None else round(requests_per_second(row.report)),
        "cells": {
            column_name(opcode): {"first": cell.firsts, "followers": cell.followers, "notes": cell.notes}
            for opcode, cell in sorted(cells(row).items())
        },
        "replay": None if row.report is None or row.terms is None else report_json(row.report, row.terms),
    }


def _path(path: object) -> str:
    return escape(str(path).encode("utf-8", "surrogateescape"))
