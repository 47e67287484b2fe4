"""The report of a run: one self-contained HTML page."""

from serinus.report.page import render, write

__all__ = ["render", "write"]
