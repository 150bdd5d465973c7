"""The demo's page: one HTML file with the figure inside, readable without a network."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtrain.demo.arithmetic import rows
from overtrain.demo.evaluate import BATCH_SIZE, TASK
from overtrain.demo.sentences import headline, label, sentence
from overtrain.pretrain.files import whole_file
from overtrain.pretrain.prepared import PreparedText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overtrain.demo.curves import Curve
    from overtrain.demo.plan import Cell, Plan
    from overtrain.demo.turning import Verdict

__all__ = ["command", "write"]


def write(plan: Plan, curves: Sequence[Curve], verdicts: Sequence[Verdict], figure: Path, out: Path) -> Path:
    """Write ``index.html`` under ``out``; everything that is filled in is escaped. Return its path."""
    from jinja2 import Environment, StrictUndefined

    text = PreparedText(plan.text(out)).about
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        (Path(__file__).parent / "page.html.j2").read_text("utf-8")
    )
    example = rows(1)[0]
    page = template.render(
        headline=headline(verdicts),
        tokens=plan.tokens,
        documents=curves[0].residuals.shape[1],
        parameters=_parameters(plan, out),
        figure=base64.b64encode(figure.read_bytes()).decode("ascii"),
        loss_sentences=[sentence(v) for v in verdicts if v.curve.quantity == "loss"],
        sensitivity_sentences=[sentence(v) for v in verdicts if v.curve.quantity != "loss"],
        table=[_row(curve) for curve in curves if curve.quantity == "loss"],
        vocabulary=plan.recipe.vocabulary,
        sources=_listed(["the Python standard library", *list(text["sources"])[1:]]),
        text=text,
        recipe=plan.recipe,
        plan=plan,
        example=example["prompt"] + example["completion"],
        commands=[command(cell, plan, out) for cell in _examples(plan)],
        versions=_versions(plan, out),
    )
    path = out / "index.html"
    whole_file(path, page)
    return path


def command(cell: Cell, plan: Plan, out: Path) -> str:
    """Return the ``lm_eval`` command that repeats ``cell``, quoted for a POSIX shell."""
    model, arguments = cell.model(plan, out)
    metadata = json.dumps({"text_file": str(PreparedText(plan.text(out)).held_out)})
    options = {
        "--model": model,
        "--model_args": _model_args(arguments),
        "--tasks": TASK,
        "--metadata": metadata,
        "--device": "cpu",
        "--batch_size": str(BATCH_SIZE),
    }
    lines = [f"{name} {shlex.quote(value)}" for name, value in options.items()]
    return " \\\n  ".join(["lm_eval", *lines, '--include_path "$(overtrain tasks)"'])


def _model_args(arguments: dict[str, Any]) -> str:
    """Write name=value pairs, or JSON where a path has a character that lm-eval's parser of pairs takes for syntax."""
    if all(re.fullmatch(r"[\w./+-]+", str(value)) for value in arguments.values()):
        return ",".join(f"{name}={value}" for name, value in arguments.items())
    return json.dumps(arguments)


def _examples(plan: Plan) -> list[Cell]:
    last = list(plan.cells(plan.tokens[-1]))
    return [[cell for cell in last if cell.kind == kind][-1] for kind in ("gaussian", "finetune")]


def _row(curve: Curve) -> dict[str, Any]:
    values = [
        f"{math.exp(mean):.1f} ± {math.exp(mean) * stderr:.1f}"
        for mean, stderr in zip(curve.means, curve.stderr, strict=True)
    ]
    return {"label": label(curve), "values": values}


def _parameters(plan: Plan, out: Path) -> int:
    beside = plan.checkpoints(out) / f"tokens-{plan.tokens[-1]}" / "overtrain.json"
    return int(json.loads(beside.read_text("utf-8"))["parameters"])


def _versions(plan: Plan, out: Path) -> str:
    cell = next(plan.cells(plan.tokens[-1]))
    recorded = json.loads(plan.result(cell, out).read_text("utf-8"))["config"]["overtrain"]["versions"]
    return "Versions: " + ", ".join(f"{name} {version}" for name, version in recorded.items()) + "."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
