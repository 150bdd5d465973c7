"""The command line: parsing alone; what a verb does is imported when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from model_wrappers.errors import OvertrainError
from overtrain.cli.judging import add_judging
from overtrain.report.export import form_names

__all__ = ["app", "main"]

app = typer.Typer(
    help="Does more pre-training still pay after fine-tuning or noise? Walks checkpoints, and says where the curve turns.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cache_app = typer.Typer(
    help="Tuned weights on disk, one folder per weights_id.",
    epilog="\b\nExamples:\n  overtrain cache list\n  overtrain cache prune --keep-gb 50",
    no_args_is_help=True,
)
app.add_typer(cache_app, name="cache")


Study = Annotated[str, typer.Argument(help="A YAML file, or a preset such as micro/demo.", metavar="STUDY")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder with one folder per study.")]
Workers = Annotated[int | None, typer.Option(help="Processes on this machine.", min=1)]


@app.command(
    help="Run the embedded study micro/demo with every core and report it: a ladder of tiny models, pre-trained, perturbed, "
    "fine-tuned and evaluated.\n\n"
    "Needs no network and no GPU, and takes about four minutes on two cores. Stopped and started again, it goes on.",
    epilog="\b\nExamples:\n  overtrain demo\n  overtrain demo --quick --runs /tmp/runs",
)
def demo(
    runs: Runs = Path("runs"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A ladder far too small to show anything: does it work?")
    ] = False,
    workers: Workers = None,
) -> None:
    """Run the demo."""
    import os

    name = "micro/quick" if quick else "micro/demo"
    _sweep(name, runs, workers=workers or os.cpu_count())
    report(str(runs / name.rpartition("/")[2]))


@app.command(
    help="Say what a study would do and cost, and what difference it could detect, before anything is spent.\n\n"
    "All mistakes in the file are reported at once, each with its line.",
    epilog="\b\nExamples:\n  overtrain validate micro/demo\n  overtrain validate configs/paper/olmo_1b_alpaca.yaml",
)
def validate(
    studies: Annotated[list[str], typer.Argument(help="YAML files or presets.", metavar="STUDY...")],
) -> None:
    """Validate studies."""
    from overtrain.plan.estimate import validate as estimate

    for number, study in enumerate(studies):
        typer.echo(("\n" if number else "") + "\n".join(estimate(study).sentences()))


@app.command(
    help="Run the cells of a study that have no result yet, here or on a Ray cluster.\n\n"
    "Any number of processes may work on one folder; a kill costs at most the cell in flight. Exits with 1 if cells "
    "failed.",
    epilog="\b\nExamples:\n  overtrain sweep micro/demo --dry-run\n  overtrain sweep my_study.yaml --ray auto",
)
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
    _sweep(study, runs, dry_run=dry_run, only=only or (), retry_failed=retry_failed, ray=ray, workers=workers)


def _sweep(study: str, runs: Path, **options: Any) -> None:
    from overtrain.run.sweep import run

    summary = run(study, runs, **options)
    typer.echo("\n".join(summary.sentences()))
    if not summary.complete and not summary.dry_run:
        raise typer.Exit(1)


@app.command(
    help="Show how far a study is: done, failed, running, missing, remaining time.",
    epilog="\b\nExamples:\n  overtrain status micro/demo\n  overtrain status my_study.yaml --watch 5",
)
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


@app.command(
    help="Turn a study's results into one self-contained page, figures (SVG, PDF, PNG) and tables (CSV, Parquet).",
    epilog="\b\nExamples:\n  overtrain report runs/demo\n  overtrain report runs/olmo_1b_anthropic_hh --published",
)
def report(
    folder: Annotated[str, typer.Argument(help="A study's folder, as sweep left it.", metavar="RUNS/STUDY")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default report/ in the folder.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Put the paper's own statements beside ours.")] = False,
) -> None:
    """Report a study."""
    from overtrain.report.build import report as write

    typer.echo(f"page: {write(Path(folder), out, published=published)}")


@app.command(
    help="Write results in the form that other tools read.",
    epilog="\b\nExamples:\n  overtrain export runs/demo --form every_eval_ever --out /tmp/eee\n"
    "  overtrain export runs/demo --form lm_eval --out /tmp/results",
)
def export(
    folder: Annotated[Path, typer.Argument(help="A study's folder, as sweep left it.", metavar="RUNS/STUDY")],
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


add_judging(app)


@app.command(
    help="Print the folder of our task YAMLs, for lm_eval's --include_path.",
    epilog='\b\nExamples:\n  overtrain tasks\n  lm_eval ls tasks --include_path "$(overtrain tasks)"',
)
def tasks() -> None:
    """Print the folder to include."""
    import overtrain_tasks

    typer.echo(str(overtrain_tasks.path()))


@cache_app.command(
    "list",
    help="List tuned weights, the least recently used first.",
    epilog="\b\nExamples:\n  overtrain cache list\n  OVERTRAIN_CACHE=/scratch/overtrain overtrain cache list",
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
    help="Remove tuned weights, the least recently used first, and what killed trainings left behind.",
    epilog="\b\nExamples:\n  overtrain cache prune --keep-gb 50\n  overtrain cache prune --older-than 30",
)
def cache_prune(
    keep_gb: Annotated[float, typer.Option(help="Keep the most recently used entries up to this size.", min=0)] = 0.0,
    older_than: Annotated[float, typer.Option(help="Spare what was used within so many days.", min=0)] = 0.0,
) -> None:
    """Prune the weights cache."""
    from model_wrappers.cache import WeightsCache

    removed = WeightsCache().prune(max_bytes=int(keep_gb * 1e9), older_than_days=older_than)
    typer.echo(f"removed {len(removed)} entries")


@cache_app.command(
    "proofs",
    help="List the comparisons of fast scores with lm-eval's own; they are made once per architecture and setting.",
    epilog="\b\nExamples:\n  overtrain cache proofs\n  overtrain cache proofs --forget",
)
def cache_proofs(
    forget: Annotated[bool, typer.Option("--forget", help="Remove all, so that the next runs compare again.")] = False,
) -> None:
    """List or remove what is remembered of the comparisons."""
    from model_wrappers.scoring import proofs

    if forget:
        typer.echo(f"removed {proofs.forget()} comparisons")
        return
    for proof in proofs.proofs():
        about = proof.about
        kind = str(about.get("model")).rpartition(".")[2]
        settings = f"{about.get('dtype')}, {about.get('asked')} up to {about.get('up_to_tokens')} tokens, {about.get('device')}"
        typer.echo(f"{proof.made}  {kind}  {settings}  {proof.reason or 'equal'}")


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
