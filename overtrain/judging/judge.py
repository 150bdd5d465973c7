"""Judges a study's answers: every tuned checkpoint against the reference of its own family and variant.

Answers are generated before, as cells of the study, so a judge that dies loses none. Verdicts go to
``runs/<study>/judge/verdicts.sqlite``; running the same command again asks only what has no verdict yet, whatever has changed
meanwhile (another reference, more cells). When every pair has been asked, cells are scored one by one into
``judge/documents/<cell_id>.parquet`` and ``judge/scores.json``.

Source: Springer et al. (2025), Appendix B.3.
Deviation: both orders of each pair by default, so that a judge that prefers a position cannot move the win rate.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_wrappers.errors import ConfigError, JudgeError, StoreError
from model_wrappers.serving.client import Endpoint, run_anywhere
from overtrain.judging.pairs import Questions, find_matches
from overtrain.judging.progress import JudgeProgress
from overtrain.judging.scores import Judged, score_all
from overtrain.results.store import Store
from overtrain.results.study_file import read_study
from overtrain_tasks.alpaca_eval.judge import judge_all, prepare
from overtrain_tasks.alpaca_eval.orders import check_orders, shown_first
from overtrain_tasks.alpaca_eval.prompt import load_template
from overtrain_tasks.alpaca_eval.verdicts import Verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

__all__ = ["Judged", "judge", "judge_study"]


def judge_study(run_folder: str | Path, given: Mapping[str, Any]) -> Judged:
    """Judge a study with what its file says under ``judge``, and with ``given`` in its place.

    Args:
        run_folder: of the study.
        given: arguments of `judge`; those that are None are the file's, or `judge`'s own.

    Raises:
        ConfigError: neither names a server and a model; and as `judge` raises.
    """
    study = read_study(Path(run_folder))
    said = {} if study is None or study.judge is None else dataclasses.asdict(study.judge)
    settings = {name: value for source in (said, given) for name, value in dict(source).items() if value is not None}
    for name in ("url", "model"):
        if name not in settings and study is not None:
            raise ConfigError(
                f"the study names no judge's {name}: give --judge-{name}, or judge: {{{name}: ...}} in its file "
                "(`overtrain serve judge` prints how to start one)"
            )
    return judge(run_folder, **({"url": "http://unknown", "model": ""} | settings))


def judge(
    run_folder: str | Path,
    *,
    url: str,
    model: str,
    reference: str | None = None,
    orders: str = "both",
    max_missing: float = 0.01,
    concurrency: int = 64,
    timeout: float = 600.0,
    retries: int = 6,
    backoff: float = 1.0,
    api_key: str | None = None,
    template_file: Path | None = None,
    console: Console | None = None,
) -> Judged:
    """Ask the judge what has no verdict yet, and score every cell that has answers.

    Args:
        run_folder: of the study.
        url: of an OpenAI-compatible server, up to and with ``/v1``.
        model: the judge, as the server names it.
        reference: a cell in place of the study's own: ``cell_id``, label, or a pattern that fits one label.
        orders: ``both``, or ``one``, the one that AlpacaEval's seed chooses per instruction.
        max_missing: share of a cell's items, 0 to 1, that may lack a verdict.
        concurrency: requests under way at a time.
        timeout: seconds for one try.
        retries: of one request.
        backoff: seconds before the first retry.
        api_key: default the environment's ``OPENAI_API_KEY``.
        template_file: in place of AlpacaEval's prompt.
        console: for progress; default standard error.

    Raises:
        ConfigError: an argument is wrong, or no cell has answers.
        DataError: the answers of two cells are to different instructions.
        JudgeError: the server is down or gone, or too many items are missing in a cell; verdicts are kept.
        StoreError: there is no study, or its files are damaged or cannot be written.
        KeyboardInterrupt: as pressed; verdicts are kept.
    """
    if not 0 <= max_missing <= 1:
        raise ConfigError(f"max_missing={max_missing}: a share must lie between 0 and 1, e.g. 0.01 for 1%")
    order = check_orders(orders)
    endpoint = Endpoint(
        url=url,
        model=model,
        api_key=api_key,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        backoff=backoff,
    )
    root = Path(run_folder)
    study = read_study(root)
    if study is None:
        raise StoreError(
            f"there is no study in {root}; give the folder that `overtrain sweep` wrote, such as runs/NAME"
        )
    template = load_template(template_file)
    matches, waiting = find_matches(study, Store(root), reference)
    asked = run_anywhere(prepare(endpoint, template))
    with Verdicts(root / "judge" / "verdicts.sqlite") as verdicts:
        questions = Questions(asked, verdicts, order)
        total = sum(m.items() for m in matches) * len(shown_first("", order))
        with JudgeProgress(console, total) as progress:
            unanswered = questions.unanswered(matches, progress)
            try:
                run_anywhere(judge_all(asked, unanswered, verdicts, questions.noting(progress)))
            except JudgeError as error:
                raise JudgeError(f"{error}\n{progress.settled} of {total} questions are settled so far") from error
        judged = Judged(root / "judge" / "scores.json", waiting=waiting, asked=questions.asked)
        score_all(questions, matches, judged, max_missing)
    return judged
