"""The pairs of answers that are compared, and the questions to the judge about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model_wrappers.errors import ConfigError, DataError
from overtrain.judging.answers import Answers
from overtrain.judging.backends.base import Question
from overtrain.judging.orders import shown_first
from overtrain.results.groups import groups
from overtrain_tasks.alpaca_eval import TASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from overtrain.judging.answers import Answer
    from overtrain.judging.backends.base import Backend, Messages, Reason
    from overtrain.judging.orders import Orders
    from overtrain.judging.preferences import Preference, PreferenceStore
    from overtrain.judging.progress import JudgeProgress
    from overtrain.results.groups import Group
    from overtrain.results.record import CellRecord, StudyRecord
    from overtrain.results.store import Store

__all__ = ["AnsweredGroup", "Pair", "Questions", "answered_groups"]


@dataclass
class AnsweredGroup:
    """One group whose reference has answers, with its cells that have answers.

    Attributes:
        group: with its reference.
        reference: its answers.
        cells: the others, each with its answers.
    """

    group: Group
    reference: Answers
    cells: list[tuple[CellRecord, Answers]]

    def pairs(self) -> int:
        """Return how many pairs of answers there are."""
        return len(self.reference) * len(self.cells)


@dataclass
class Pair:
    """Two answers to one instruction, as the judge reads them.

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


def answered_groups(study: StudyRecord, store: Store, reference: str | None) -> tuple[list[AnsweredGroup], list[str]]:
    """Return what can be judged, and the labels of cells that have no answers yet.

    Raises:
        ConfigError: nothing can.
        DataError: a cell's documents are not those of its reference.
    """
    found: list[AnsweredGroup] = []
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
        found.append(AnsweredGroup(group, against, cells))
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
    """The questions about pairs, and the reasons why some questions have no preference.

    Attributes:
        backend: asks the judge.
        preferences: what the judge said.
        orders: how often about one pair.
        failures: key -> reason, of questions that were asked in vain.
        server_said: reason -> what the server last said.
        asked: how many questions were asked.
    """

    backend: Backend
    preferences: PreferenceStore
    orders: Orders
    failures: dict[bytes, Reason] = field(default_factory=dict)
    server_said: dict[Reason, str] = field(default_factory=dict)
    asked: int = 0

    def unanswered(self, groups: list[AnsweredGroup], progress: JudgeProgress) -> Iterator[Question]:
        """Yield every question without a preference, instruction by instruction: neighbours share the longest prefix."""
        for group in groups:
            for place in range(len(group.reference)):
                against = group.reference.read(place)
                pairs = [self.pair(answers.read(place), against, cell, group.group) for cell, answers in group.cells]
                for answer_first in shown_first(against.instruction, self.orders):
                    for pair in pairs:
                        question = None if pair.equal else self._unless_known(pair, answer_first=answer_first)
                        if question is None:
                            progress.known()
                            continue
                        self.asked += 1
                        yield question

    def _unless_known(self, pair: Pair, *, answer_first: bool) -> Question | None:
        messages = self.messages(pair, answer_first=answer_first)
        key = self.backend.key(messages)
        return None if self.preferences.get(key) is not None else Question(key, messages)

    def storing(self, progress: JudgeProgress) -> Callable[[bytes, Preference | Reason, str], None]:
        """Return a function that stores a preference, or the reason why there is none. The backend calls it for every reply.

        The returned function raises StoreError if preferences cannot be written.
        """

        def store(key: bytes, reply: Preference | Reason, server_said: str) -> None:
            if isinstance(reply, str):
                self.failures[key] = reply
                self.server_said[reply] = server_said
            else:
                self.preferences.put(key, reply)
            progress.answered(failed=isinstance(reply, str))

        return store

    def pair(self, answer: Answer, reference: Answer, cell: CellRecord, group: Group) -> Pair:
        """Return two answers as the judge will read them.

        Raises:
            DataError: they are to different instructions.
        """
        if answer.instruction != reference.instruction:
            raise _different(cell, group)
        broken = self.backend.server.special.broken
        (instruction, some), (text, more), (against, others) = map(
            broken, (answer.instruction, answer.text, reference.text)
        )
        lengths = (len(answer.text), len(reference.text))
        return Pair(instruction, text, against, answer.text == reference.text, some + more + others, lengths)

    def messages(self, pair: Pair, *, answer_first: bool) -> Messages:
        """Return the chat that asks about a pair in one order."""
        first, second = (pair.answer, pair.reference) if answer_first else (pair.reference, pair.answer)
        return self.backend.server.template.fill(pair.instruction, first, second)

    def preferences_on(self, pair: Pair, instruction: str) -> tuple[dict[bool, Preference], Reason | None]:
        """Return the preferences on a pair by whether its answer was shown first, and why one is missing if one is."""
        found: dict[bool, Preference] = {}
        lacking: Reason | None = None
        for answer_first in () if pair.equal else shown_first(instruction, self.orders):
            key = self.backend.key(self.messages(pair, answer_first=answer_first))
            preference = self.preferences.get(key)
            if preference is None:
                lacking = lacking or self.failures.get(key, "failed")
            else:
                found[answer_first] = preference
        return found, lacking
