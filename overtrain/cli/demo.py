"""``overtrain demo``: the embedded study, run and reported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from overtrain.cli.options import Runs, Workers  # noqa: TC001  (typer reads annotations when it runs)
from overtrain.cli.report import write_report
from overtrain.cli.sweep import run_sweep

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command(
        help="Run the embedded study micro/demo with every core and report it: a ladder of tiny models, pre-trained, "
        "perturbed, fine-tuned and evaluated.\n\n"
        "Needs no network and no GPU, and takes about four minutes on two cores. Stopped and started again, it goes on.",
        epilog="\b\nExamples:\n  overtrain demo\n  overtrain demo --quick --runs /tmp/runs",
    )(demo)


def demo(
    runs: Runs = Path("runs"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A ladder far too small to show anything: does it work?")
    ] = False,
    workers: Workers = None,
) -> None:
    """Run the demo."""
    name = "micro/quick" if quick else "micro/demo"
    run_sweep(name, runs, workers=workers or os.cpu_count())
    write_report(runs / name.rpartition("/")[2])
