"""Judges a study's answers: every tuned checkpoint against the reference of its own family and variant.

Answers are generated before, as cells of the study, so a judge that dies loses none. The judge's preferences go to
``runs/<study>/judge/verdicts.sqlite``. Running the same command again asks only questions without a preference, whatever has
changed meanwhile (another reference, more cells). When every pair has been asked, cells are scored one by one into
``judge/documents/<cell_id>.parquet`` and ``judge/scores.json``.

Source: Springer et al. (2025), Appendix B.3.
Deviation: both orders of each pair by default, so that a judge that prefers a position cannot move the win rate.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from model_wrappers.errors import ConfigError, JudgeError, ServerError, StoreError, close_match
from model_wrappers.serving.client import Endpoint, run_anywhere
from overtrain.judging.backends.base import BackendName, reach
from overtrain.judging.orders import check_orders, shown_first
from overtrain.judging.pairs import Questions, answered_groups
from overtrain.judging.preferences import PreferenceStore
from overtrain.judging.progress import JudgeProgress
from overtrain.judging.prompt import load_template
from overtrain.judging.score_cells import score_cells
from overtrain.judging.summary import JudgingSummary
from overtrain.results.store import Store
from overtrain.results.study_file import read_study

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from overtrain.judging.backends.base import Backend
    from overtrain.judging.prompt import JudgeTemplate

__all__ = ["JudgingSummary", "judge", "judge_study"]


def judge_study(run_folder: str | Path, given: Mapping[str, Any]) -> JudgingSummary:
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
    if settings.get("backend") != "sampled" and given.get("samples") is None:
        settings.pop("samples", None)  # of the file, whose backend is not used
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
    backend: BackendName = "logprobs",
    samples: int | None = None,
    timeout: float = 600.0,
    retries: int = 6,
    backoff: float = 1.0,
    api_key: str | None = None,
    template_file: Path | None = None,
    console: Console | None = None,
) -> JudgingSummary:
    """Ask the judge every question that has no preference yet, and score every cell that has answers.

    Args:
        run_folder: of the study.
        url: of an OpenAI-compatible server, up to and with ``/v1``.
        model: the judge, as the server names it.
        reference: a cell in place of the study's own: ``cell_id``, label, or a pattern that fits one label.
        orders: ``both``, or ``one``, the one that AlpacaEval's seed chooses per instruction.
        max_missing: share of a cell's items, 0 to 1, that may lack a preference.
        concurrency: requests under way at a time.
        backend: ``logprobs`` for a server that returns log-probabilities, ``sampled`` for any other one. Preferences of one
            backend are never used for the other.
        samples: of the judge's answer per question and order, for ``sampled``; default `DEFAULT_SAMPLES`.
        timeout: seconds for one try.
        retries: of one request.
        backoff: seconds before the first retry.
        api_key: default the environment's ``OPENAI_API_KEY``.
        template_file: in place of AlpacaEval's prompt.
        console: for progress; default standard error.

    Raises:
        ConfigError: an argument is wrong, or no cell has answers.
        DataError: the answers of two cells are to different instructions.
        JudgeError: the server is down or gone, or too many items are missing in a cell; preferences are kept.
        StoreError: there is no study, or its files are damaged or cannot be written.
        KeyboardInterrupt: Ctrl-C was pressed; preferences are kept.
    """
    if not 0 <= max_missing <= 1:
        raise ConfigError(f"max_missing={max_missing}: a share must lie between 0 and 1, e.g. 0.01 for 1%")
    _check_backend(backend, samples)
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
    groups, waiting = answered_groups(study, Store(root), reference)
    template = load_template(template_file)
    try:
        asked = run_anywhere(_prepare(backend, samples, endpoint, template))
    except ServerError as error:
        raise JudgeError(str(error)) from error
    with PreferenceStore(root / "judge" / "verdicts.sqlite") as preferences:
        questions = Questions(asked, preferences, order)
        total = sum(group.pairs() for group in groups) * len(shown_first("", order))
        with JudgeProgress(console, total) as progress:
            try:
                run_anywhere(asked.ask(questions.unanswered(groups, progress), questions.storing(progress)))
            except (JudgeError, ServerError) as error:
                raise JudgeError(f"{error}\n{progress.settled} of {total} questions are settled so far") from error
        summary = JudgingSummary(root / "judge" / "scores.json", waiting=waiting, asked=questions.asked)
        score_cells(questions, groups, summary, max_missing)
    return summary


async def _prepare(name: BackendName, samples: int | None, endpoint: Endpoint, template: JudgeTemplate) -> Backend:
    """Return the backend called ``name``, ready to ask.

    Raises:
        ServerError: the server is not up, or does not have the model.
    """
    from overtrain.judging.backends import logprobs, sampled

    server = await reach(endpoint, template)
    if name == "logprobs":
        return await logprobs.prepare(server)
    return await sampled.prepare(server, samples or sampled.DEFAULT_SAMPLES)


def _check_backend(backend: str, samples: int | None) -> None:
    """Refuse a backend that does not exist and a number of samples that makes no sense.

    Raises:
        ConfigError: see above.
    """
    names = get_args(BackendName)
    if backend not in names:
        raise ConfigError(f"backend={backend!r}: must be one of {', '.join(names)}{close_match(backend, names)}")
    if samples is not None and backend != "sampled":
        raise ConfigError(f"samples={samples}: only the backend sampled takes samples; give --backend sampled as well")
    if samples is not None and samples < 1:
        raise ConfigError(f"samples={samples}: must be at least 1, e.g. 8")
