"""From preferences to a study's win rates: ``judge/documents/<cell_id>.parquet`` and ``judge/scores.json``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from model_wrappers.errors import JudgeError
from model_wrappers.files import write_whole
from overtrain.judging.backends.base import REASONS
from overtrain.judging.orders import shown_first
from overtrain.judging.win_rates import win_rates
from overtrain.results.judged import GroupRecord, JudgedCell, JudgedRecord, JudgeRecord, ReferenceRecord, write_judged
from overtrain.results.record import MetricRow
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from overtrain.judging.answers import Answers
    from overtrain.judging.backends.base import Reason
    from overtrain.judging.pairs import AnsweredGroup, Questions
    from overtrain.judging.preferences import Preference
    from overtrain.judging.summary import JudgingSummary
    from overtrain.judging.win_rates import WinRates
    from overtrain.results.groups import Group
    from overtrain.results.record import CellRecord

__all__ = ["score_cells"]


def score_cells(
    questions: Questions, groups: Sequence[AnsweredGroup], summary: JudgingSummary, max_missing: float
) -> None:
    """Score cell by cell and write what may be written, beside and into ``summary.file``.

    Args:
        questions: that have been asked.
        groups: of the study.
        summary: filled in.
        max_missing: share of a cell's items that may lack a preference.

    Raises:
        JudgeError: too many items are missing in some cells; the others are written.
        StoreError: nothing can be written.
    """
    cells: dict[str, JudgedCell] = {}
    refused: list[str] = []
    for group in groups:
        reference = group.group.reference.cell_id or ""
        cells[reference] = _of_reference(reference)
        for cell, answers in group.cells:
            judged, found = _score(questions, group, cell, answers)
            summary.questions += judged.questions
            if judged.missing > max_missing * judged.documents:
                reasons = ", ".join(f"{count} {_words(why)}" for why, count in judged.missing_by_reason.items())
                refused.append(f"\n  {cell.label}: {judged.missing} of {judged.documents} ({reasons})")
                continue
            _write_documents(summary.file.parent / "documents" / f"{cell.cell_id}.parquet", found)
            cells[cell.cell_id or ""] = judged
            summary.add(cell.label, judged)
    if summary.cells:
        _write_scores(questions, groups, cells, summary.file)
    if refused:
        said = "".join(f"\nthe server said: {words}" for words in questions.server_said.values() if words)
        raise JudgeError(
            f"too many items without a preference (max_missing is {100 * max_missing:g}%):{''.join(refused)}{said}\nthese "
            "cells are not scored, preferences are kept; mend the judge and run the same command again, or raise max_missing"
        )


def _words(reason: str) -> str:
    return {str(name): words for name, words in REASONS.items()}.get(reason, reason)


def _score(
    questions: Questions, group: AnsweredGroup, cell: CellRecord, answers: Answers
) -> tuple[JudgedCell, WinRates]:
    """Return a cell's entry for ``scores.json``, and its win rates."""
    missing: Counter[Reason] = Counter()
    wins: list[tuple[float | None, float | None] | None] = []
    instructions, lengths = [], []
    broken = one_token = asked = samples = 0
    for place in range(len(answers)):
        against = group.reference.read(place)
        pair = questions.pair(answers.read(place), against, cell, group.group)
        preferences, lacking = questions.preferences_on(pair, against.instruction)
        if lacking:
            missing[lacking] += 1
        wins.append(None if lacking else (_win(preferences, first=True), _win(preferences, first=False)))
        instructions.append(against.instruction)
        lengths.append(pair.lengths)
        broken += pair.broken
        one_token += sum(preference.one_token for preference in preferences.values())
        samples += sum(preference.samples or 0 for preference in preferences.values())
        asked += 0 if pair.equal else len(shown_first(against.instruction, questions.orders))
    found = win_rates(answers.documents.tolist(), instructions, wins, lengths)
    judged = JudgedCell(
        reference=group.group.reference.cell_id or "",
        documents=len(answers),
        questions=asked,
        missing=sum(missing.values()),
        missing_by_reason={str(reason): count for reason, count in sorted(missing.items())},
        equal=sum(win == (None, None) for win in wins),
        broken_special=broken,
        one_token=one_token,
        samples=samples,
        rows=tuple(MetricRow(**row) for row in found.rows),
    )
    return judged, found


def _win(preferences: Mapping[bool, Preference], *, first: bool) -> float | None:
    """Return the probability that the answer wins when it is shown first, or second."""
    preference = preferences.get(first)
    return None if preference is None else preference.first if first else 1 - preference.first


def _of_reference(cell_id: str) -> JudgedCell:
    """Return a reference's entry for ``scores.json``: a win rate of 50%, by definition."""
    win_rate = MetricRow(task=TASK, metric="win_rate", value=50.0, n_documents=0, higher_is_better=True)
    return JudgedCell(reference=cell_id, rows=(win_rate,))


def _write_scores(
    questions: Questions, groups: Sequence[AnsweredGroup], cells: Mapping[str, JudgedCell], file: Path
) -> None:
    server, how = questions.backend.server, questions.backend.describe()
    judge = JudgeRecord(
        model=server.endpoint.model,
        template=server.template.name,
        template_sha256=server.template.sha256,
        orders=questions.orders,
        alpaca_eval=server.template.version,
        both_tokens=how.both_tokens,
        backend=how.backend,
        samples=how.samples,
    )
    records = tuple(_group_record(group.group) for group in groups)
    write_judged(file.parent.parent, JudgedRecord(judge=judge, groups=records, cells=cells))
    scored = {cell_id for cell_id, cell in cells.items() if cell.reference != cell_id}
    for path in (file.parent / "documents").glob("*.parquet"):
        if path.stem not in scored:
            path.unlink(missing_ok=True)


def _group_record(group: Group) -> GroupRecord:
    reference = ReferenceRecord(
        cell_id=group.reference.cell_id or "",
        label=group.reference.label,
        tokens=group.reference.tokens,
        run=group.reference.run,
        seed=group.reference.seed,
        selected=group.reference.selected,
        default=group.default,
    )
    return GroupRecord(family=group.family, variant=group.variant, reference=reference)


def _write_documents(path: Path, found: WinRates) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.array(values) for name, values in found.documents.items()}), sink)
    write_whole(path, bytes(sink.getvalue()))
