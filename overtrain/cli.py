"""The command line: parsing alone; what a verb does is imported when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from model_wrappers.errors import OvertrainError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Does more pre-training still pay after fine-tuning or noise? Walks checkpoints, and says where the curve turns.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cache_app = typer.Typer(
    help="Tuned weights on disk, one folder per weights_id.\n\n"
    "\b\nExamples:\n  overtrain cache list\n  overtrain cache prune --keep-gb 50",
    no_args_is_help=True,
)
app.add_typer(cache_app, name="cache")


@app.command(
    help="Pre-train a ladder of tiny models, perturb and fine-tune every one of them, and draw where the curves turn.\n\n"
    "Needs no network and no GPU, and takes three to four minutes on two cores. Stopped and started again, it goes on.\n\n"
    "\b\nExamples:\n  overtrain demo\n  overtrain demo --quick --out /tmp/demo"
)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, results, figure and page.")] = Path("runs/demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A much smaller ladder, to see that everything works.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default one per core.", min=1)] = None,
) -> None:
    """Run the demo."""
    from overtrain.demo import run

    page = run(out=out, quick=quick, workers=workers)
    typer.echo(f"page: {page}")


@app.command(
    help="Print the folder of our task YAMLs, for lm_eval's --include_path.\n\n"
    '\b\nExamples:\n  overtrain tasks\n  lm_eval ls tasks --include_path "$(overtrain tasks)"'
)
def tasks() -> None:
    """Print the folder to include."""
    import overtrain_tasks

    typer.echo(str(overtrain_tasks.path()))


@cache_app.command(
    "list",
    help="List tuned weights, the least recently used first.\n\n"
    "\b\nExamples:\n  overtrain cache list\n  OVERTRAIN_CACHE=/scratch/overtrain overtrain cache list",
)
def cache_list() -> None:
    """List the weights cache."""
    from datetime import UTC, datetime

    from model_wrappers.cache import WeightsCache

    cache = WeightsCache()
    entries = cache.entries()
    for entry in entries:
        meta = entry.meta
        checkpoint = meta["checkpoint"]
        steps = ", ".join(step["described"]["modification"] for step in meta["steps"])
        used = datetime.fromtimestamp(entry.used, UTC).strftime("%Y-%m-%d %H:%M")
        typer.echo(
            f"{entry.weights_id[:12]}  {_size(entry.size):>9}  {used}  {checkpoint['repo']}@{checkpoint['revision']}  {steps}"
        )
    typer.echo(f"{len(entries)} entries, {_size(sum(e.size for e in entries))} under {cache.root}")


@cache_app.command(
    "prune",
    help="Remove tuned weights, the least recently used first, and what killed trainings left behind.\n\n"
    "\b\nExamples:\n  overtrain cache prune --keep-gb 50\n  overtrain cache prune --older-than 30",
)
def cache_prune(
    keep_gb: Annotated[float, typer.Option(help="Keep the most recently used entries up to this size.", min=0)] = 0.0,
    older_than: Annotated[float, typer.Option(help="Spare what was used within so many days.", min=0)] = 0.0,
) -> None:
    """Prune the weights cache."""
    from model_wrappers.cache import WeightsCache

    removed = WeightsCache().prune(max_bytes=int(keep_gb * 1e9), older_than_days=older_than)
    typer.echo(f"removed {len(removed)} entries")


def _size(size: int) -> str:
    """Return bytes for people: powers of 1000, as disks are sold.

    >>> _size(1_234_567)
    '1.2 MB'
    """
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def main() -> None:
    """Run the command line; a user's error is one message and exit code 2, anything else keeps its traceback."""
    try:
        app()
    except OvertrainError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
