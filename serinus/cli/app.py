"""The `serinus` command: groups of sub-commands, each in a module of its own that is loaded when its group is used."""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import Annotated

import typer

from serinus.cli import chart, evidence, features, home, model, pipeline, problem, serving, steering

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(problem.app, name="problem", help="Problem cards: check one, or write a new one.")
app.add_typer(features.app, name="features", help="Feature store: build, materialize, look up.")
app.add_typer(pipeline.app, name="pipeline", help="Training pipeline: run here, or submit to Kubeflow.")
app.add_typer(model.app, name="model", help="Registered model versions and their aliases.")
app.add_typer(steering.app, name="rollout", help="Rollouts: start, watch, steer, look back.")
app.add_typer(home.app, name="home", help="Where runs write: convert one of an earlier release.")
app.command()(serving.serve)
app.command()(serving.predict)
app.command()(serving.bucket)
app.command()(evidence.collect)
app.add_typer(evidence.outcomes_app, name="outcomes", help="Outcomes: send them to a collector.")
app.command()(evidence.replay)
app.command()(evidence.kpis)
app.command()(evidence.trace)
app.command()(chart.chart)


def _told(asked: bool) -> None:
    if asked:
        typer.echo(f"serinus {installed('serinus')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_told, help="Print it.")] = False,
) -> None:
    """From a raw log to a rollout that decides by itself."""
