"""MMLU as one task: 57 subjects, each with its own description and its own five examples.

Upstream has 57 tasks, and groups of them. In a group of ten tasks, lm-eval would replace MMLU by these 57 tasks, so MMLU would
count 57 times. So here MMLU is one task over the configuration ``all``, whose rows name their subject. The prompts are
upstream's. ``acc`` is the mean over documents, which is upstream's ``weight_by_size``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from datasets import Dataset, concatenate_datasets

from overtrain_tasks import data
from overtrain_tasks.task import ChoiceTask

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SUBJECTS", "MmluTask"]

_log = logging.getLogger(__name__)

SUBJECTS = (
    "abstract_algebra",
    "anatomy",
    "astronomy",
    "business_ethics",
    "clinical_knowledge",
    "college_biology",
    "college_chemistry",
    "college_computer_science",
    "college_mathematics",
    "college_medicine",
    "college_physics",
    "computer_security",
    "conceptual_physics",
    "econometrics",
    "electrical_engineering",
    "elementary_mathematics",
    "formal_logic",
    "global_facts",
    "high_school_biology",
    "high_school_chemistry",
    "high_school_computer_science",
    "high_school_european_history",
    "high_school_geography",
    "high_school_government_and_politics",
    "high_school_macroeconomics",
    "high_school_mathematics",
    "high_school_microeconomics",
    "high_school_physics",
    "high_school_psychology",
    "high_school_statistics",
    "high_school_us_history",
    "high_school_world_history",
    "human_aging",
    "human_sexuality",
    "international_law",
    "jurisprudence",
    "logical_fallacies",
    "machine_learning",
    "management",
    "marketing",
    "medical_genetics",
    "miscellaneous",
    "moral_disputes",
    "moral_scenarios",
    "nutrition",
    "philosophy",
    "prehistory",
    "professional_accounting",
    "professional_law",
    "professional_medicine",
    "professional_psychology",
    "public_relations",
    "security_studies",
    "sociology",
    "us_foreign_policy",
    "virology",
    "world_religions",
)


class MmluTask(ChoiceTask):
    """MMLU over all subjects. The examples of a document are the first rows of its own subject, in order.

    A mirror has the folder ``mmlu/all``. If this folder is missing, or its rows do not name their ``subject``, the 57 folders
    ``mmlu/<subject>`` are read instead. The metadata contains the number of evaluated subjects.

    Deviation: documents alternate between subjects (all first rows, then all second rows, ...). So ``--limit 570`` means ten
    documents of every subject, not the documents of the first six subjects. Without a limit, the order does not change scores.
    """

    def rows(self, splits: Sequence[str]) -> dict[str, Dataset]:
        """Read the rows, with their subject, of the given splits."""
        loaded = self._mirrored(splits) if data.mirror_root() is not None else super().rows(splits)
        self._pools = _by_subject(loaded[splits[-1]])
        loaded[self.evaluated_split] = _interleaved(loaded[self.evaluated_split])
        subjects = set(loaded[self.evaluated_split]["subject"])
        self.metadata["subjects"] = len(subjects)
        if missing := sorted(set(SUBJECTS) - subjects):
            _log.warning("%s: %d of 57 subjects have no row: %s", self.config.task, len(missing), ", ".join(missing))
        return loaded

    def split_names(self) -> tuple[str, ...]:
        """Return the splits of ``mmlu/all``, or of the first subject's folder."""
        root = data.mirror_root()
        if root is None or (root / self.metadata["mirror"]).is_dir():
            return super().split_names()
        return data.split_names(self.DATASET_PATH, self.DATASET_NAME, mirror=f"{self._parent}/{SUBJECTS[0]}")

    def fewshot_context(self, doc: Any, num_fewshot: int, *args: Any, **kwargs: Any) -> str:
        """Return upstream's few-shot context, with the examples of the document's subject."""
        if num_fewshot:
            pool = self._pools[doc["subject"]]
            # Not every release of lm-eval excludes the evaluated document from the first rows.
            if self.fewshot_cfg.split == self.config.test_split:
                pool = [row for row in pool if row != doc]
            self.sampler.replace_df(pool)
        return super().fewshot_context(doc, num_fewshot, *args, **kwargs)

    def fewshot_pools(self) -> dict[str, int]:
        """Return the number of few-shot rows of each evaluated subject."""
        return {
            f"subject {subject!r} in split {self.fewshot_split!r}": len(self._pools.get(subject, ()))
            for subject in sorted(set(self.dataset[self.evaluated_split]["subject"]))
        }

    @property
    def _parent(self) -> str:
        return str(self.metadata["mirror"]).rpartition("/")[0]

    def _mirrored(self, splits: Sequence[str]) -> dict[str, Dataset]:
        without_subject = [name for name in self.fields if name != "subject"]
        root = data.mirror_root()
        if root is not None and (root / self.metadata["mirror"]).is_dir():
            loaded = data.load(
                self.DATASET_PATH, self.DATASET_NAME, splits, mirror=self.metadata["mirror"], fields=without_subject
            )
            if all("subject" in rows.column_names and None not in rows["subject"] for rows in loaded.values()):
                return loaded
        return {split: self._from_folders(split, without_subject) for split in splits}

    def _from_folders(self, split: str, fields: Sequence[str]) -> Dataset:
        parts = []
        for subject in SUBJECTS:
            mirror = f"{self._parent}/{subject}"
            rows = data.load(self.DATASET_PATH, subject, [split], mirror=mirror, fields=fields)[split]
            parts.append(rows.select_columns(list(fields)).add_column("subject", [subject] * len(rows)))
        return concatenate_datasets(parts)


def _by_subject(rows: Dataset) -> dict[str, list[dict[str, Any]]]:
    pools: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        pools.setdefault(row["subject"], []).append(row)
    return pools


def _interleaved(rows: Dataset) -> Dataset:
    seen: dict[str, int] = {}
    turns = []
    for index, subject in enumerate(rows["subject"]):
        seen[subject] = seen.get(subject, 0) + 1
        turns.append((seen[subject], index))
    return rows.select([index for _, index in sorted(turns)])
