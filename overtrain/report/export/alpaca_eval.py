"""AlpacaEval's own files: what a judged study looks like to its tools.

Per group of cells that share a reference ``reference_outputs.json`` and ``leaderboard.csv``; per cell ``model_outputs.json``
and ``annotations.json``; and a folder ``evaluator/`` with which stock ``alpaca_eval --annotators_config`` asks the same judge.

Source: alpaca_eval 0.6.6, the files that ``alpaca_eval evaluate`` reads and writes.
Deviation: where both orders of a pair were judged, a preference is 1 + their mean. Pairs without a verdict have the preference
null, which alpaca_eval drops from every mean as well.
"""

from __future__ import annotations

import io
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from model_wrappers.compat import logged_text
from model_wrappers.errors import StoreError
from model_wrappers.files import write_whole
from overtrain.report.export.form import ExportForm
from overtrain.report.files import harmless, slug
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pandas as pd

__all__ = ["COLUMNS", "AlpacaEval", "leaderboard_row"]

COLUMNS = (
    *("win_rate", "standard_error", "mode", "avg_length", "n_wins", "n_wins_base", "n_draws", "n_total"),
    "discrete_win_rate",
)
"""Columns of ``leaderboard.csv`` after the model's name, in alpaca_eval's order."""


class AlpacaEval(ExportForm):
    """The files of every judged cell. No other form holds the text of models and benchmarks."""

    needs = "has no judged cell; run `overtrain judge` first, then export"

    def write(self, run_folder: Path, out: Path, *, organization: str) -> int:  # noqa: ARG002
        """Write the files of every judged cell; return how many cells that are.

        Raises:
            StoreError: the study has not been judged, or a file is damaged.
        """
        from overtrain.judging.prompt import installed_template
        from overtrain.results.frame import load_judged

        judged = load_judged(run_folder)
        if judged is None:
            raise StoreError(f"{run_folder} has not been judged; run `overtrain judge {run_folder}` first")
        labels = _labels(run_folder)
        written = 0
        for group in judged.groups:
            reference = group.reference.cell_id
            folder = out / slug(f"{group.family} {group.variant}")
            baseline = _outputs(run_folder, reference, labels.get(reference, reference))
            _json(folder / "reference_outputs.json", list(baseline.values()))
            table = {}
            for cell_id, cell in judged.cells.items():
                if cell.reference != reference or cell_id == reference or cell_id not in labels:
                    continue
                name = labels[cell_id]
                answers = _outputs(run_folder, cell_id, name)
                rows = _annotations(run_folder, cell_id, answers, baseline)
                where = folder / f"{slug(name)}-{cell_id[:8]}"
                _json(where / "model_outputs.json", list(answers.values()))
                _json(where / "annotations.json", rows)
                table[name] = leaderboard_row([r["preference"] for r in rows], [r["output"] for r in answers.values()])
                written += 1
            write_whole(folder / "leaderboard.csv", _leaderboard(table))
        write_whole(out / "evaluator" / "configs.yaml", _evaluator(judged.judge.model, str(installed_template()[0])))
        return written


def leaderboard_row(preferences: Iterable[float | None], outputs: Iterable[str]) -> dict[str, Any]:
    """Return one row of ``leaderboard.csv`` as alpaca_eval computes it (``get_winrate``).

    Args:
        preferences: 1 to 2, 2 where the model wins; None without a verdict.
        outputs: the model's answers; ``avg_length`` is their mean in characters, rounded down.
    """
    import numpy as np

    wins = np.array([p - 1 for p in preferences if p is not None])
    lengths = np.array([len(text) for text in outputs])
    count = len(wins)
    # alpaca_eval rounds preferences to whole numbers, halves to even: a draw (1.5) counts as half a win.
    discrete = np.where(wins == 0.5, 0.5, np.round(wins + 1) - 1)
    return {
        "win_rate": float(wins.mean() * 100) if count else None,
        "standard_error": float(wins.std(ddof=1) / count**0.5 * 100) if count > 1 else None,
        "mode": "community",
        "avg_length": int(lengths.mean()) if len(lengths) else None,
        "n_wins": int((wins > 0.5).sum()),
        "n_wins_base": int((wins < 0.5).sum()),
        "n_draws": int((wins == 0.5).sum()),
        "n_total": count,
        "discrete_win_rate": float(discrete.mean() * 100) if count else None,
    }


def _labels(run_folder: Path) -> dict[str, str]:
    from overtrain.results.frame import load_study

    return {cell.cell_id: cell.label for cell in load_study(run_folder).cells if cell.cell_id}


def _outputs(run_folder: Path, cell_id: str, generator: str) -> dict[int, dict[str, str]]:
    """Return document -> row of ``model_outputs.json``, in the documents' order."""
    found = {}
    for sample in _samples(run_folder, cell_id):
        doc = sample["doc"]
        found[int(sample["doc_id"])] = {
            "instruction": str(doc["instruction"]),
            "output": logged_text(sample),
            "generator": generator,
            "dataset": str(doc.get("dataset", "")),
        }
    return dict(sorted(found.items()))


def _samples(run_folder: Path, cell_id: str) -> Iterator[dict[str, Any]]:
    from overtrain.results.store import Store

    for line in Store(run_folder).read(cell_id, f"samples_{TASK}.jsonl").splitlines():
        yield json.loads(line)


def _annotations(
    run_folder: Path, cell_id: str, answers: dict[int, dict[str, str]], baseline: dict[int, dict[str, str]]
) -> list[dict[str, Any]]:
    import pandas as pd

    frame: pd.DataFrame = pd.read_parquet(run_folder / "judge" / "documents" / f"{cell_id}.parquet")
    wins = dict(zip(frame["document"].astype(int), frame["win"], strict=True))
    rows = []
    for document, answer in answers.items():
        win = wins.get(document)
        rows.append(
            {
                "instruction": answer["instruction"],
                "output_1": baseline[document]["output"],
                "generator_1": baseline[document]["generator"],
                "dataset": answer["dataset"],
                "output_2": answer["output"],
                "generator_2": answer["generator"],
                "annotator": "overtrain_judge",
                "preference": None if win is None or pd.isna(win) else 1 + float(win) / 100,
                "preference_version": f"lm-eval-overtrain=={version('lm-eval-overtrain')}",
            }
        )
    return rows


def _leaderboard(table: dict[str, dict[str, Any]]) -> str:
    import pandas as pd

    frame = harmless(pd.DataFrame.from_dict(table, orient="index", columns=list(COLUMNS)))
    text = io.StringIO()
    frame.sort_values("win_rate", ascending=False).to_csv(text)
    return text.getvalue()


def _evaluator(model: str, template: str) -> str:
    """Return the preset of ``configs/alpaca_eval`` with this study's judge and the path of the installed prompt."""
    import yaml

    from overtrain.study.presets import find_preset

    preset = find_preset("alpaca_eval/weighted_vllm_llama3_70b/configs")
    (settings,) = yaml.safe_load(preset.read_text("utf-8")).values()
    settings["prompt_template"] = template
    settings["completions_kwargs"]["model_name"] = model
    return str(yaml.safe_dump({"overtrain_judge": settings}, sort_keys=False))


def _json(path: Path, content: Any) -> None:
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
