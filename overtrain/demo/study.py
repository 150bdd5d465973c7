"""The demo from text to page."""

from __future__ import annotations

import errno
import json
import shlex
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from model_wrappers.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overtrain.demo.plan import Cell, Plan
    from overtrain.pretrain.pool import Pool
    from overtrain.pretrain.prepared import PreparedText

__all__ = ["DEFAULT_OUT", "run"]

DEFAULT_OUT = Path("runs/demo")

_UNWRITABLE = frozenset(
    {errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS}
)


def run(out: Path = DEFAULT_OUT, quick: bool = False, workers: int | None = None) -> Path:
    """Run the demo, or what is left of it, and return its page.

    Under ``out``: ``text/``, ``checkpoints/``, one lm-eval results JSON per cell in ``cells/``, and then
    ``results.csv``, ``curves.csv``, ``figure.png`` and ``index.html``. Everything finished is kept, so the same call goes
    on where an earlier one stopped, however it stopped.

    Args:
        out: folder for everything.
        quick: two tiny budgets, to see that it works; the curves then mean nothing.
        workers: processes with one thread each; default one per CPU.

    Raises:
        StoreError: ``out`` holds the demo of another plan or of other text, or cannot be written.
        KeyboardInterrupt: as pressed, after saying how to go on.
    """
    from overtrain.demo.plan import FULL, QUICK
    from overtrain.pretrain.prepared import prepare

    out = Path(out)
    plan = QUICK if quick else FULL
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        with _writing(out):
            _refuse_other(plan, out)
            console.print("Collecting text and training the tokenizer ...")
            text = prepare(plan.recipe, plan.text(out))
            _claim(plan, text, out)
            _compute(plan, text, out, workers, console)
            return _report(plan, out, console)
    except KeyboardInterrupt:
        options = (["--out", str(out)] if out != DEFAULT_OUT else []) + (["--quick"] if quick else [])
        again = shlex.join(["overtrain", "demo", *options])
        console.print(f"Interrupted. What is finished is kept under {out}; go on with: {again}")
        raise


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise StoreError(
            f"cannot write under {out}: {error}; free space there or give a folder of your own as --out "
            "(what is finished is kept)"
        ) from error


def _identity(plan: Plan, sha256: str) -> Any:
    return json.loads(json.dumps({"plan": plan.describe(), "text_sha256": sha256}))


def _refuse_other(plan: Plan, out: Path) -> None:
    """Raise before anything slow if ``out`` was made by another plan."""
    path = out / "demo.json"
    if not path.exists():
        return
    recorded = json.loads(path.read_text("utf-8"))
    if recorded != _identity(plan, recorded.get("text_sha256", "")):
        raise StoreError(
            f"{out} holds a demo of another plan (other budgets, strengths or seeds); delete it or give another --out"
        )


def _claim(plan: Plan, text: PreparedText, out: Path) -> None:
    """Write down plan and text, or raise if the results under ``out`` belong to other text."""
    from overtrain.demo.arithmetic import write_rows
    from overtrain.pretrain.files import whole_file

    path = out / "demo.json"
    identity = _identity(plan, text.about["sha256"])
    if path.exists() and json.loads(path.read_text("utf-8")) != identity:
        raise StoreError(f"{out} holds results on other text than {text.root}; delete it or give another --out")
    whole_file(path, json.dumps(identity, indent=2))
    whole_file(plan.arithmetic(out), write_rows(plan.finetune_steps * plan.finetune_batch))


def _compute(plan: Plan, text: PreparedText, out: Path, workers: int | None, console: Console) -> None:
    """Train every missing checkpoint and evaluate every missing cell."""
    from overtrain.demo.progress import DemoProgress
    from overtrain.pretrain.ladder import finished, train_run
    from overtrain.pretrain.pool import Pool

    folder = plan.checkpoints(out)
    budgets = sorted(
        plan.recipe.budgets, reverse=True
    )  # the longest first, so that no worker ends long after the others
    missing = [budget for budget in budgets if not finished(plan.recipe, budget, text, folder)]
    cells = [cell for tokens in plan.tokens for cell in plan.cells(tokens) if not plan.result(cell, out).exists()]
    if not missing and not cells:
        return
    environment = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "OVERTRAIN_CACHE": str(out / "cache"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    with (
        DemoProgress(sum(map(plan.recipe.tokens, missing)), len(cells), console) as progress,
        Pool(workers, environment, out / "logs") as pool,
    ):
        console.print(f"{len(missing)} checkpoints to pre-train, {len(cells)} cells to evaluate ...")
        for budget in missing:
            pool.submit(f"checkpoint {plan.recipe.tokens(budget)}", train_run, plan.recipe, budget, text, folder)
        waiting = {plan.recipe.tokens(budget) for budget in missing}
        _submit_cells(plan, text, out, pool, [cell for cell in cells if cell.tokens not in waiting])
        for name, _ in pool.finished(progress.trained):
            what, _, tokens = name.partition(" ")
            if what == "cell":
                progress.evaluated()
                continue
            console.print(f"pre-trained on {int(tokens):,} tokens")
            _submit_cells(plan, text, out, pool, [cell for cell in cells if cell.tokens == int(tokens)])


def _submit_cells(plan: Plan, text: PreparedText, out: Path, pool: Pool, cells: list[Cell]) -> None:
    from overtrain.demo.evaluate import evaluate

    for cell in cells:
        pool.submit(f"cell {cell.name}", evaluate, cell, plan, text.held_out, out)


def _report(plan: Plan, out: Path, console: Console) -> Path:
    """Turn the cells into tables, figure and page; return the page."""
    from overtrain.demo import curves, figure, page, results, sentences, tables, turning

    scores = results.read(plan, out)
    drawn = curves.assemble(scores)
    verdicts = [turning.judge(curve) for curve in drawn]
    tables.results_frame(scores).to_csv(out / "results.csv", index=False)
    tables.curves_frame(verdicts).to_csv(out / "curves.csv", index=False)
    figure.draw(drawn, out / "figure.png")
    written = page.write(plan, drawn, verdicts, out / "figure.png", out)
    for verdict in verdicts:
        if verdict.curve.quantity == "loss":
            console.print(f"- {sentences.sentence(verdict)}")
    return written
