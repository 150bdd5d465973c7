"""The data sets that ``data=`` accepts by a short name. To add a data set, add one entry here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NAMED_SETS", "NamedSet"]


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """A published data set and how this project reads it.

    Attributes:
        name: the name that users type (``data=tulu``).
        hub: id on the Hugging Face hub.
        config: configuration on the hub; None if there is only one.
        part: folder of the hub's data set (``data_dir``) that this set consists of; None for the whole data set.
        format: a name of `model_wrappers.training.formats.FORMATS`.
        template: the template that ``template=auto`` stands for; our assumption, because the paper gives none.
        mirror: folder under ``OVERTRAIN_DATA``.
        rows: approximate number of rows, for estimates of cost.
        row_tokens: approximate number of tokens per row with its template, for estimates of cost.
        limit: number of rows drawn at random if ``data_limit`` is not given; None for all.
        citation: the publication, and how the paper uses the data set.
    """

    name: str
    hub: str
    config: str | None = None
    part: str | None = None
    format: str
    template: str
    mirror: str
    rows: int
    row_tokens: int
    limit: int | None = None
    citation: str


NAMED_SETS: dict[str, NamedSet] = {
    entry.name: entry
    for entry in (
        NamedSet(
            name="anthropic_hh",
            hub="Anthropic/hh-rlhf",
            format="hh",
            template="tulu",
            mirror="hh_rlhf",
            rows=160_800,
            row_tokens=200,  # (measured on harmless-base: 170)
            citation="Bai et al. (2022), arXiv:2204.05862; paper, Appendix B.2: the chosen response is the target",
        ),
        NamedSet(
            name="anthropic_hh_harmless",
            hub="Anthropic/hh-rlhf",
            part="harmless-base",
            format="hh",
            template="tulu",
            mirror="hh_rlhf_harmless",
            rows=42_537,
            row_tokens=170,  # (measured)
            citation="Bai et al. (2022), arXiv:2204.05862, the harmless-base part alone; the paper uses the whole data set",
        ),
        NamedSet(
            name="tulu",
            hub="allenai/tulu-v1-sft-mixture",
            format="messages",
            template="tulu",
            mirror="tulu",
            rows=490_000,
            row_tokens=450,
            limit=200_000,
            citation="Wang et al. (2023), arXiv:2306.04751; paper, Appendix B.2: version 1, 200k of 490k rows",
        ),
        NamedSet(
            name="alpaca",
            hub="tatsu-lab/alpaca",
            format="alpaca",
            template="alpaca",
            mirror="alpaca",
            rows=52_002,
            row_tokens=110,  # (measured)
            citation="Taori et al. (2023), https://github.com/tatsu-lab/stanford_alpaca; paper, Appendix B.2, table 2",
        ),
        NamedSet(
            name="dolly",
            hub="databricks/databricks-dolly-15k",
            format="dolly",
            template="alpaca",
            mirror="dolly",
            rows=15_011,
            row_tokens=215,  # (measured)
            citation="Conover et al. (2023), https://huggingface.co/datasets/databricks/databricks-dolly-15k",
        ),
        NamedSet(
            name="gsm8k",
            hub="openai/gsm8k",
            config="main",
            format="gsm8k",
            template="qa",
            mirror="gsm8k",
            rows=7_473,
            row_tokens=130,  # (measured)
            citation="Cobbe et al. (2021), arXiv:2110.14168",
        ),
    )
}
"""Every named set by name."""
