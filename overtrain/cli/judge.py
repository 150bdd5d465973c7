"""``overtrain judge``: AlpacaEval's win rates of a study's answers."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads annotations when it runs)
from typing import Annotated, Literal

import typer

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command(
        help="Compare the answers of a study's tuned checkpoints with a reference's: AlpacaEval's win rates.\n\n"
        "The judge is served by vLLM or any other OpenAI-compatible server (its key is in OPENAI_API_KEY); one that returns "
        "no log-probabilities is asked several times with --backend sampled. What the study's file says under judge and "
        "reference holds where nothing is given. If interrupted, run the command again; it continues.",
        epilog="\b\nExamples:\n  overtrain judge runs/my_study --judge-url http://127.0.0.1:8000/v1 --judge-model NAME\n"
        "  overtrain judge --print-template",
    )(judge)


def judge(
    folder: Annotated[
        Path | None, typer.Argument(help="A study's folder, as sweep left it.", metavar="RUNS/STUDY")
    ] = None,
    *,
    judge_url: Annotated[str | None, typer.Option(help="Of the server, e.g. http://127.0.0.1:8000/v1.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="The judge, as the server names it.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="The cell to compare with: its cell_id, its label or a pattern for the label.")
    ] = None,
    orders: Annotated[
        Literal["both", "one"] | None, typer.Option(help="Of each pair; one is AlpacaEval's own choice.")
    ] = None,
    max_missing: Annotated[
        float | None, typer.Option(help="Share of a cell's items that may lack a preference, e.g. 0.01.")
    ] = None,
    backend: Annotated[
        Literal["logprobs", "sampled"] | None,
        typer.Option(help="sampled asks a server without log-probabilities several times; default logprobs."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Of the judge's answer per question and order, for sampled; default 8.", min=1)
    ] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests under way at a time.", min=1)] = None,
    print_template: Annotated[
        bool, typer.Option("--print-template", help="Print the file of AlpacaEval's prompt, and do nothing else.")
    ] = False,
) -> None:
    """Judge a study."""
    if print_template:
        from overtrain.judging.prompt import installed_template

        typer.echo(str(installed_template()[0]))
        return
    if folder is None:
        raise typer.BadParameter("give the folder of a study, such as runs/my_study")
    from overtrain.judging.judge import judge_study

    given = {
        "url": judge_url,
        "model": judge_model,
        "reference": reference,
        "orders": orders,
        "max_missing": max_missing,
        "concurrency": concurrency,
        "backend": backend,
        "samples": samples,
    }
    typer.echo("\n".join(judge_study(folder, given).sentences()))
