"""``overtrain cache list|prune``: tuned weights on disk."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["add"]

cache_app = typer.Typer(
    help="Tuned weights on disk, one folder per weights_id.",
    epilog="\b\nExamples:\n  overtrain cache list\n  overtrain cache prune --keep-gb 50",
    no_args_is_help=True,
)


def add(app: typer.Typer) -> None:
    """Add the group of verbs to ``app``."""
    app.add_typer(cache_app, name="cache")


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
    """List or remove stored outcomes of comparisons."""
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
    """Return a size as text, in powers of 1000.

    >>> _size(1_234_567)
    '1.2 MB'
    """
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
