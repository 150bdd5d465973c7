"""Sentences of the paper's text that a study with the same checkpoints can test.

Source: Springer et al. (2025), "Overtrained Language Models Are Harder to Fine-Tune", abstract and Sections 2.2 and 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["EQUALITY_SHARE", "NEAR", "STATEMENTS", "Statement", "budgets"]

NEAR = 0.05
"""Checkpoints within 5% of the tokens that the paper's text rounds to are taken as the ones it means."""

EQUALITY_SHARE = 0.01
"""Two checkpoints are equal within 1% of the earlier one's score, where the study sets no ``plateau_margin`` for the metric.

The paper gives no margin. 1% is half of the 2% that its abstract calls worse performance, and was fixed before any of these
studies ran.
"""

Claim = Literal["worse", "equal", "inflection"]


@dataclass(frozen=True)
class Statement:
    """One sentence of the paper's text.

    Attributes:
        says: in our words.
        where: in the paper.
        claim: ``worse`` (the later of two budgets; tested as a difference), ``equal`` (two budgets; tested as equivalence),
            or ``inflection`` (where the curve turns; a verdict).
        family: pattern for the family of checkpoints.
        data: pattern for the variant or its fine-tuning data.
        measure: pattern for what is measured.
        compare: budgets that the statement compares; None for one about the inflection point.
        more_than: share of the earlier score that the sentence says is lost at least; None where it names none.
        up_to: tokens that the study must reach for a statement about the inflection point to be checked.
    """

    says: str
    where: str
    claim: Claim
    family: str
    data: str
    measure: str
    compare: tuple[float, float] | None = None
    more_than: float | None = None
    up_to: float = 3e12


_OLMO_1B, _OLMO_7B = r"olmo[-_ ]?1b", r"olmo[-_ ]?(2[-_ ].*)?7b"
_BENCHMARKS, _JUDGED = r"average of \d+ benchmarks|overtrain_(ten|core8)", r"alpaca_?eval"
STATEMENTS = (
    Statement(
        "OLMo-1B, instruction-tuned: over 2% worse at 3T tokens than at 2.3T on multiple standard benchmarks",
        "abstract", "worse", _OLMO_1B, r"hh|tulu", _BENCHMARKS, (2.3e12, 3e12), more_than=0.02,
    ),
    Statement(
        "OLMo-1B tuned on Anthropic-HH: AlpacaEval score up to 3% lower at 3T tokens than at 2.3T",
        "Section 2.2", "worse", _OLMO_1B, r"hh", _JUDGED, (2.3e12, 3e12),
    ),
    Statement(
        "OLMo-1B, instruction-tuned: at 3T tokens down to the level of 1.5T",
        "Section 2.2", "equal", _OLMO_1B, r"hh|tulu", _BENCHMARKS, (1.5e12, 3e12),
    ),
    Statement(
        "OLMo-1B tuned on Anthropic-HH or TULU: overtraining at budgets beyond 2.5T tokens, in and out of distribution",
        "Section 3.1", "inflection", _OLMO_1B, r"hh|tulu", _BENCHMARKS,
    ),
    Statement(
        "OLMo-7B (OLMo-2-7B in Table 1): no overtraining observed up to 3T tokens",
        "Section 3.1", "inflection", _OLMO_7B, r"hh|tulu", _BENCHMARKS,
    ),
)  # fmt: skip


def budgets(statement: Statement, known: list[int]) -> tuple[int, int] | None:
    """Return the two budgets among ``known`` that a statement means, None where one of them is lacking.

    >>> budgets(STATEMENTS[0], [1_500, 2_353_000_000_000, 3_048_000_000_000, 3_094_000_000_000])
    (2353000000000, 3048000000000)
    """
    if statement.compare is None:
        return None
    nearest = [min(known, key=lambda n: abs(n - wanted)) for wanted in statement.compare]
    if any(abs(n / wanted - 1) > NEAR for n, wanted in zip(nearest, statement.compare, strict=True)):
        return None
    return nearest[0], nearest[1]
