"""``overtrain tasks``: where the task YAMLs are."""

from __future__ import annotations

import typer

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command(
        help="Print the folder of our task YAMLs, for lm_eval's --include_path.",
        epilog='\b\nExamples:\n  overtrain tasks\n  lm_eval ls tasks --include_path "$(overtrain tasks)"',
    )(tasks)


def tasks() -> None:
    """Print the folder to include."""
    import overtrain_tasks

    typer.echo(str(overtrain_tasks.path()))
