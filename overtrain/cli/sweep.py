"""``overtrain sweep``: the cells of a study that have no result yet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from overtrain.cli.options import Runs, Study, Workers  # noqa: TC001  (typer reads annotations when it runs)

__all__ = ["add", "run_sweep"]


def add(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command(
        help="Run the cells of a study that have no result yet, here or on a Ray cluster.\n\n"
        "Any number of processes may work on one folder; a kill costs at most the cell in flight. Exits with 1 if cells "
        "failed.",
        epilog="\b\nExamples:\n  overtrain sweep micro/demo --dry-run\n  overtrain sweep my_study.yaml --ray auto",
    )(sweep)


def sweep(
    study: Study,
    runs: Runs = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="A variant, a checkpoint or a pattern for labels; may be given often.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    ray: Annotated[str | None, typer.Option(help="local, auto or a Ray cluster's address (extra [cluster]).")] = None,
    workers: Workers = None,
) -> None:
    """Run a study."""
    run_sweep(study, runs, dry_run=dry_run, only=only or (), retry_failed=retry_failed, ray=ray, workers=workers)


def run_sweep(study: str, runs: Path, **options: Any) -> None:
    """Run a study with the options of `overtrain.run.sweep.run`, print its summary, and exit with 1 if cells are missing."""
    from overtrain.run.sweep import run

    summary = run(study, runs, **options)
    typer.echo("\n".join(summary.sentences()))
    if not summary.complete and not summary.dry_run:
        raise typer.Exit(1)
