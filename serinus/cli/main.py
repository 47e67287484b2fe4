"""Entry point of the `serinus` command: what it takes to be interrupted well is there before anything else is loaded.

Invariant: imports nothing that takes time; the commands are loaded inside.
"""

from __future__ import annotations

from serinus.wiring.interrupts import end_at_once


def main() -> None:
    """Runs the command that the arguments name."""
    end_at_once()
    from serinus.cli.app import app
    from serinus.wiring.lifeline import follow

    follow()
    app()
