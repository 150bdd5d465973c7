"""What is compared with what: pairs of answers, and the questions to the judge that they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError, DataError
from overtrain.judging.answers import Answers
from overtrain.results.groups import groups
from overtrain_tasks.alpaca_eval import TASK
from overtrain_tasks.alpaca_eval.orders import shown_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from overtrain.judging.answers import Answer
    from overtrain.judging.progress import JudgeProgress
    from overtrain.results.groups import Group
    from overtrain.results.record import CellRecord, StudyRecord
    from overtrain.results.store import Store
    from overtrain_tasks.alpaca_eval.judge import Judge
    from overtrain_tasks.alpaca_eval.orders import Orders
    from overtrain_tasks.alpaca_eval.verdicts import Verdict, Verdicts

__all__ = ["Match", "Pair", "Questions", "find_matches"]


@dataclass
class Match:
    """One group whose reference has answers, and those of its cells that have.

    Attributes:
        group: with its reference.
        reference: its answers.
        cells: the others, each with its answers.
    """

    group: Group
    reference: Answers
    cells: list[tuple[CellRecord, Answers]]

    def items(self) -> int:
        """Return how many pairs of answers there are."""
        return len(self.reference) * len(self.cells)


@dataclass
class Pair:
    """Two answers to one instruction, as the judge will read them.

    Attributes:
        instruction: special tokens broken, as in the two answers.
        answer: of the cell.
        reference: of the reference.
        equal: whether the two are the same; then nobody is asked.
        broken: how many special tokens were broken in the three texts.
        lengths: of answer and reference before that, in characters.
    """

    instruction: str
    answer: str
    reference: str
    equal: bool
    broken: int
    lengths: tuple[int, int]


def find_matches(study: StudyRecord, store: Store, reference: str | None) -> tuple[list[Match], list[str]]:
    """Return what can be judged, and the labels of cells that have no answers yet.

    Raises:
        ConfigError: nothing can.
        DataError: a cell's documents are not those of its reference.
    """
    found: list[Match] = []
    waiting: list[str] = []
    for group in groups(study, reference):
        waiting += [cell.label for cell in (group.reference, *group.cells) if not _finished(cell, store)]
        if not _finished(group.reference, store):
            continue
        against = Answers(store, group.reference.cell_id or "")
        cells = [(cell, Answers(store, cell.cell_id or "")) for cell in group.cells if _finished(cell, store)]
        for cell, answers in cells:
            if not (len(answers) == len(against) and (answers.documents == against.documents).all()):
                raise _different(cell, group)
        found.append(Match(group, against, cells))
    if not any(m.cells for m in found):
        lacking = (
            f": without answers are {', '.join(waiting[:5])}" if waiting else f": no tuned cell has the task {TASK}"
        )
        raise ConfigError(f"{study.name} has nothing to judge{lacking}; a reference and one more cell must be finished")
    return found, waiting


def _finished(cell: CellRecord, store: Store) -> bool:
    return cell.cell_id is not None and store.state(cell.cell_id).status == "done"


def _different(cell: CellRecord, group: Group) -> DataError:
    return DataError(
        f"{cell.label} and its reference {group.reference.label} answered different instructions; run the study again "
        "with one source and one limit for both"
    )


@dataclass
class Questions:
    """What a judge is asked about pairs, and why some of it has no verdict.

    Attributes:
        judge: who is asked.
        verdicts: what it said.
        orders: how often about one pair.
        failures: key -> reason, of what was asked in vain.
        words: reason -> what the server last said.
        asked: how many questions were asked.
    """

    judge: Judge
    verdicts: Verdicts
    orders: Orders
    failures: dict[bytes, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    def unanswered(self, matches: list[Match], progress: JudgeProgress) -> Iterator[tuple[bytes, list[dict[str, str]]]]:
        """Yield what has no verdict, instruction by instruction: neighbours share the longest prefix."""
        for match in matches:
            for place in range(len(match.reference)):
                against = match.reference.read(place)
                pairs = [self.pair(answers.read(place), against, cell, match.group) for cell, answers in match.cells]
                for answer_first in shown_first(against.instruction, self.orders):
                    for pair in pairs:
                        question = None if pair.equal else self._unless_known(pair, answer_first=answer_first)
                        if question is None:
                            progress.known()
                            continue
                        self.asked += 1
                        yield question

    def _unless_known(self, pair: Pair, *, answer_first: bool) -> tuple[bytes, list[dict[str, str]]] | None:
        messages = self.messages(pair, answer_first=answer_first)
        key = self.judge.key(messages)
        return None if self.verdicts.get(key) is not None else (key, messages)

    def noting(self, progress: JudgeProgress) -> Callable[[bytes, Verdict | str, str], None]:
        """Return what notes an answer's outcome."""

        def note(key: bytes, found: Verdict | str, words: str) -> None:
            if isinstance(found, str):
                self.failures[key] = found
                self.words[found] = words
            progress.answered(failed=isinstance(found, str))

        return note

    def pair(self, answer: Answer, reference: Answer, cell: CellRecord, group: Group) -> Pair:
        """Return two answers as the judge will read them.

        Raises:
            DataError: they are to different instructions.
        """
        if answer.instruction != reference.instruction:
            raise _different(cell, group)
        broken = self.judge.special.broken
        (instruction, some), (text, more), (against, others) = map(
            broken, (answer.instruction, answer.text, reference.text)
        )
        lengths = (len(answer.text), len(reference.text))
        return Pair(instruction, text, against, answer.text == reference.text, some + more + others, lengths)

    def messages(self, pair: Pair, *, answer_first: bool) -> list[dict[str, str]]:
        """Return the chat that asks about a pair in one order."""
        first, second = (pair.answer, pair.reference) if answer_first else (pair.reference, pair.answer)
        return self.judge.template.fill(pair.instruction, first, second)

    def verdicts_of(self, pair: Pair, instruction: str) -> tuple[dict[bool, Verdict], str | None]:
        """Return the verdicts on a pair by whether its answer was shown first, and why one is missing if one is."""
        found: dict[bool, Verdict] = {}
        lacking = None
        for answer_first in () if pair.equal else shown_first(instruction, self.orders):
            key = self.judge.key(self.messages(pair, answer_first=answer_first))
            verdict = self.verdicts.get(key)
            if verdict is None:
                lacking = lacking or self.failures.get(key, "failed")
            else:
                found[answer_first] = verdict
        return found, lacking
