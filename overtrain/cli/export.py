"""``overtrain export``: results in formats of other tools."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads annotations when it runs)
from typing import Annotated

import typer

from overtrain.cli.options import RunFolder  # noqa: TC001  (typer reads annotations when it runs)
from overtrain.report.export import form_names

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command(
        help="Write results in the form that other tools read.",
        epilog="\b\nExamples:\n  overtrain export runs/demo --form every_eval_ever --out /tmp/eee\n"
        "  overtrain export runs/demo --form lm_eval --out /tmp/results",
    )(export)


def export(
    folder: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    form: Annotated[
        str,
        typer.Option(
            metavar="|".join(form_names()),
            help="lm_eval is a folder as leaderboards read it; alpaca_eval needs a judged study.",
        ),
    ] = "every_eval_ever",
) -> None:
    """Export a study."""
    from overtrain.report.export import export as write

    typer.echo(f"exported: {write(folder, out, form=form)}")
