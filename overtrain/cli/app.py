"""The command line: each verb parses its arguments in its own file, and imports its implementation when it runs."""

from __future__ import annotations

import sys

import typer

from model_wrappers.errors import OvertrainError
from overtrain.cli import cache, demo, export, judge, report, serve, status, sweep, tasks, validate

__all__ = ["app", "main"]

app = typer.Typer(
    help="Does more pre-training still pay after fine-tuning or noise? Walks checkpoints, and says where the curve turns.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (demo, validate, sweep, status, report, export, judge, tasks, cache, serve):
    verb.add(app)


def main() -> None:
    """Run the command line. A user's error is one message and exit code 2; every other error keeps its traceback."""
    try:
        app()
    except OvertrainError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
