"""From verdicts to a study's win rates: ``judge/documents/<cell_id>.parquet`` and ``judge/scores.json``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model_wrappers.errors import JudgeError
from model_wrappers.files import write_whole
from overtrain.results.judged import GroupRecord, JudgedCell, JudgedRecord, JudgeRecord, ReferenceRecord, write_judged
from overtrain.results.record import MetricRow
from overtrain_tasks.alpaca_eval import SATURATED, TASK
from overtrain_tasks.alpaca_eval.judge import REASONS
from overtrain_tasks.alpaca_eval.orders import shown_first
from overtrain_tasks.alpaca_eval.score import score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from overtrain.judging.answers import Answers
    from overtrain.judging.pairs import Match, Questions
    from overtrain.results.groups import Group
    from overtrain.results.record import CellRecord
    from overtrain_tasks.alpaca_eval.score import Scores
    from overtrain_tasks.alpaca_eval.verdicts import Verdict

__all__ = ["Judged", "score_all"]


@dataclass
class Judged:
    """How the judging ended.

    Attributes:
        file: ``scores.json``.
        cells: how many are scored now, references excluded.
        questions: that they take: pairs of different answers, times orders.
        asked: how many of those the judge was asked now; the others had a verdict.
        missing: items without a verdict, over all scored cells.
        waiting: labels of cells that have no answers yet.
        saturated: labels of cells whose win rate lies outside `SATURATED`.
    """

    file: Path
    cells: int = 0
    questions: int = 0
    asked: int = 0
    missing: int = 0
    waiting: list[str] = field(default_factory=list)
    saturated: list[str] = field(default_factory=list)

    def add(self, label: str, cell: JudgedCell) -> None:
        """Note a scored cell."""
        self.cells += 1
        self.missing += cell.missing
        win_rate = cell.rows[0].value
        if win_rate is not None and not SATURATED[0] <= win_rate <= SATURATED[1]:
            self.saturated.append(f"{label}: {win_rate:.1f}%")

    def sentences(self) -> list[str]:
        """Return the outcome for people, the most important line last."""
        lines = []
        if self.waiting:
            lines.append(
                f"{len(self.waiting)} cells have no answers yet ({_some(self.waiting)}); run the study, then judge again"
            )
        if self.saturated:
            lines.append(
                f"the win rates of {len(self.saturated)} cells lie outside {SATURATED[0]:g}-{SATURATED[1]:g}% "
                f"({_some(self.saturated)}): differences between checkpoints are squeezed there; choose a nearer reference"
            )
        counts = f"{self.asked} of {self.questions} questions asked now, {self.missing} items missing"
        return [*lines, f"{self.cells} cells scored; {counts}; {self.file}"]


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", ..." if len(labels) > 3 else "")


def score_all(questions: Questions, matches: Sequence[Match], judged: Judged, max_missing: float) -> None:
    """Score cell by cell and write what may be written, beside and into ``judged.file``.

    Args:
        questions: that have been asked.
        matches: of the study.
        judged: filled in.
        max_missing: share of a cell's items that may lack a verdict.

    Raises:
        JudgeError: too many items are missing in some cells; the others are written.
        StoreError: nothing can be written.
    """
    cells: dict[str, JudgedCell] = {}
    refused: list[str] = []
    for match in matches:
        reference = match.group.reference.cell_id or ""
        cells[reference] = _of_reference(reference)
        for cell, answers in match.cells:
            found, scores = _score(questions, match, cell, answers)
            judged.questions += found.questions
            if found.missing > max_missing * found.documents:
                reasons = ", ".join(f"{number} {_words(why)}" for why, number in found.missing_by_reason.items())
                refused.append(f"\n  {cell.label}: {found.missing} of {found.documents} ({reasons})")
                continue
            _write_documents(judged.file.parent / "documents" / f"{cell.cell_id}.parquet", scores)
            cells[cell.cell_id or ""] = found
            judged.add(cell.label, found)
    if judged.cells:
        _write_scores(questions, matches, cells, judged.file)
    if refused:
        said = "".join(f"\nthe server said: {words}" for words in questions.words.values() if words)
        raise JudgeError(
            f"too many items without a verdict (max_missing is {100 * max_missing:g}%):{''.join(refused)}{said}\nthese cells "
            "are not scored, verdicts are kept; mend the judge and run the same command again, or raise max_missing"
        )


def _words(reason: str) -> str:
    return {str(name): words for name, words in REASONS.items()}.get(reason, reason)


def _score(questions: Questions, match: Match, cell: CellRecord, answers: Answers) -> tuple[JudgedCell, Scores]:
    """Return what ``scores.json`` says of a cell, and its scores."""
    missing: Counter[str] = Counter()
    wins: list[tuple[float | None, float | None] | None] = []
    instructions, lengths = [], []
    broken = one_token = asked = 0
    for place in range(len(answers)):
        against = match.reference.read(place)
        pair = questions.pair(answers.read(place), against, cell, match.group)
        found, lacking = questions.verdicts_of(pair, against.instruction)
        if lacking:
            missing[lacking] += 1
        wins.append(None if lacking else (_win(found, first=True), _win(found, first=False)))
        instructions.append(against.instruction)
        lengths.append(pair.lengths)
        broken += pair.broken
        one_token += sum(verdict.one_token for verdict in found.values())
        asked += 0 if pair.equal else len(shown_first(against.instruction, questions.orders))
    scores = score(answers.documents.tolist(), instructions, wins, lengths)
    judged = JudgedCell(
        reference=match.group.reference.cell_id or "",
        documents=len(answers),
        questions=asked,
        missing=sum(missing.values()),
        missing_by_reason=dict(sorted(missing.items())),
        equal=sum(win == (None, None) for win in wins),
        broken_special=broken,
        one_token=one_token,
        rows=tuple(MetricRow(**row) for row in scores.rows),
    )
    return judged, scores


def _win(found: Mapping[bool, Verdict], *, first: bool) -> float | None:
    """Return the probability that the answer wins when it is shown first, or second."""
    verdict = found.get(first)
    return None if verdict is None else verdict.first if first else 1 - verdict.first


def _of_reference(cell_id: str) -> JudgedCell:
    """Return what ``scores.json`` says of a reference: 50% against itself, by definition."""
    win_rate = MetricRow(task=TASK, metric="win_rate", value=50.0, n_documents=0, higher_is_better=True)
    return JudgedCell(reference=cell_id, rows=(win_rate,))


def _write_scores(questions: Questions, matches: Sequence[Match], cells: Mapping[str, JudgedCell], file: Path) -> None:
    template = questions.judge.template
    judge = JudgeRecord(
        model=questions.judge.endpoint.model,
        template=template.name,
        template_sha256=template.sha256,
        orders=questions.orders,
        alpaca_eval=template.version,
        both_tokens=questions.judge.token_ids is not None,
    )
    groups = tuple(_group(match.group) for match in matches)
    write_judged(file.parent.parent, JudgedRecord(judge=judge, groups=groups, cells=cells))
    scored = {cell_id for cell_id, cell in cells.items() if cell.reference != cell_id}
    for path in (file.parent / "documents").glob("*.parquet"):
        if path.stem not in scored:
            path.unlink(missing_ok=True)


def _group(group: Group) -> GroupRecord:
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


def _write_documents(path: Path, scores: Scores) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.array(values) for name, values in scores.documents.items()}), sink)
    write_whole(path, bytes(sink.getvalue()))
