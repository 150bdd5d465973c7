"""``overtrain serve judge|checkpoint``: the vLLM command, printed or run."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["add"]

serve_app = typer.Typer(
    help="The vLLM command for a judge or a tuned checkpoint: printed, or with --run started and watched.",
    epilog="\b\nExamples:\n  overtrain serve judge --gpus 4\n  overtrain serve checkpoint EleutherAI/pythia-160m --run",
    no_args_is_help=True,
)

Port = Annotated[int, typer.Option(help="To listen on.", min=1, max=65535)]
Host = Annotated[str, typer.Option(help="Address to listen on; other machines reach 0.0.0.0 only.")]
Length = Annotated[int | None, typer.Option(help="Context in tokens; default the model's own.", min=1)]
Dtype = Annotated[str, typer.Option(help="As vLLM names it.")]
Python = Annotated[
    str | None,
    typer.Option("--vllm-python", help="Of vLLM's own environment; default OVERTRAIN_VLLM_PYTHON, else this one."),
]
Run = Annotated[bool, typer.Option("--run", help="Start it, see that it answers, stay until Ctrl-C.")]


def add(app: typer.Typer) -> None:
    """Add the group of verbs to ``app``."""
    app.add_typer(serve_app, name="serve")


@serve_app.command(
    "judge",
    help="Serve the judge, by default the paper's: Llama-3-70B-Instruct over several GPUs.",
    epilog="\b\nExamples:\n  overtrain serve judge --gpus 4\n  overtrain serve judge my/judge --gpus 1 --run",
)
def serve_judge(
    model: Annotated[str | None, typer.Argument(help="A hub repository or a folder, with a chat template.")] = None,
    *,
    gpus: Annotated[int, typer.Option(help="To spread the model over.", min=1)] = 4,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    max_model_len: Length = None,
    dtype: Dtype = "auto",
    vllm_python: Python = None,
    run: Run = False,
) -> None:
    """Serve a judge."""
    from overtrain.judging.serve import DEFAULT_JUDGE

    name = model or DEFAULT_JUDGE
    _serve(name, run=run, gpus=gpus, port=port, host=host, max_model_len=max_model_len, dtype=dtype, python=vllm_python)


@serve_app.command(
    "checkpoint",
    help="Serve a checkpoint: a repository, a folder, tuned weights of the cache, or a cell of a study.",
    epilog="\b\nExamples:\n  overtrain serve checkpoint allenai/OLMo-1B-hf --revision step738000-tokens3094B\n"
    "  overtrain serve checkpoint runs/my_study --cell '*learning_rate=2e-05*seed=0' --run",
)
def serve_checkpoint(
    what: Annotated[str, typer.Argument(help="See above.", metavar="CHECKPOINT")],
    *,
    cell: Annotated[str | None, typer.Option(help="Of a study: label, cell_id or a pattern for the label.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of a repository.")] = None,
    gpus: Annotated[int, typer.Option(help="To spread the model over.", min=1)] = 1,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    max_model_len: Length = None,
    dtype: Dtype = "auto",
    vllm_python: Python = None,
    run: Run = False,
) -> None:
    """Serve a checkpoint."""
    from overtrain.judging.serve import locate

    options: dict[str, str | int | None] = {
        "gpus": gpus,
        "port": port,
        "host": host,
        "max_model_len": max_model_len,
        "dtype": dtype,
    }
    _serve(locate(what, cell=cell), run=run, revision=revision, python=vllm_python, **options)


def _serve(model: str, *, run: bool, **options: str | int | None) -> None:
    from overtrain.judging import serve

    if run:
        serve.run(model, say=typer.echo, **options)  # type: ignore[arg-type]
    else:
        typer.echo(serve.printed(model, **options))  # type: ignore[arg-type]
