"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["RunFolder", "Runs", "Study", "Workers"]

Study = Annotated[str, typer.Argument(help="A YAML file, or a preset such as micro/demo.", metavar="STUDY")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder with one folder per study.")]
Workers = Annotated[int | None, typer.Option(help="Processes on this machine.", min=1)]
RunFolder = Annotated[Path, typer.Argument(help="A study's folder, as sweep left it.", metavar="RUNS/STUDY")]
