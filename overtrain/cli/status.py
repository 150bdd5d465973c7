"""``overtrain status``: the progress of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overtrain.cli.options import Runs, Study  # noqa: TC001  (typer reads annotations when it runs)

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command(
        help="Show how far a study is: done, failed, running, missing, remaining time.",
        epilog="\b\nExamples:\n  overtrain status micro/demo\n  overtrain status my_study.yaml --watch 5",
    )(status)


def status(
    study: Study,
    runs: Runs = Path("runs"),
    watch: Annotated[
        float | None, typer.Option(help="Look again every so many seconds until it is done.", min=0.1)
    ] = None,
) -> None:
    """Show a study's status."""
    import time

    from rich.console import Console
    from rich.live import Live

    from overtrain.run.status import status as look
    from overtrain.run.status import status_table

    found = look(study, runs)
    if watch is None:
        Console().print(status_table(found))
        return
    with Live(status_table(found), auto_refresh=False) as live:
        while found.count("missing") + found.count("running"):
            time.sleep(watch)
            found = look(study, runs)
            live.update(status_table(found), refresh=True)
