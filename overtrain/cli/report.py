"""``overtrain report``: one page, figures and tables of a study's results."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads annotations when it runs)
from typing import Annotated

import typer

from overtrain.cli.options import RunFolder  # noqa: TC001  (typer reads annotations when it runs)

__all__ = ["add", "write_report"]


def add(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command(
        help="Turn a study's results into one self-contained page, figures (SVG, PDF, PNG) and tables (CSV, Parquet).",
        epilog="\b\nExamples:\n  overtrain report runs/demo\n  overtrain report runs/olmo_1b_anthropic_hh --published",
    )(report)


def report(
    folder: RunFolder,
    out: Annotated[Path | None, typer.Option(help="Where to write; default report/ in the folder.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Put the paper's own statements beside ours.")] = False,
) -> None:
    """Report a study."""
    write_report(folder, out, published=published)


def write_report(folder: Path, out: Path | None = None, *, published: bool = False) -> None:
    """Write the report of a study's folder and print where its page is."""
    from overtrain.report.build import report as write

    typer.echo(f"page: {write(folder, out, published=published)}")
