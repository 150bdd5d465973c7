"""``overtrain validate``: what a study would do, cost and be able to detect."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command(
        help="Say what a study would do and cost, and what difference it could detect, before anything is spent.\n\n"
        "All mistakes in the file are reported at once, each with its line.",
        epilog="\b\nExamples:\n  overtrain validate micro/demo\n  overtrain validate configs/paper/olmo_1b_alpaca.yaml",
    )(validate)


def validate(
    studies: Annotated[list[str], typer.Argument(help="YAML files or presets.", metavar="STUDY...")],
) -> None:
    """Validate studies."""
    from overtrain.plan.estimate import validate as estimate

    for number, study in enumerate(studies):
        typer.echo(("\n" if number else "") + "\n".join(estimate(study).sentences()))
