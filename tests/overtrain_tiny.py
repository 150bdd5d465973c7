"""A study small enough for tests: two random models, noise and fine-tuning, six sentences."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from overtrain.results.frame import load_documents, load_runs

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

TEXTS = [
    "A man walks into a bar.",
    "What is 2 + 2?",
    "Naïve questions.",
    "Third text, a little longer than the others.",
]

STUDY = """\
name: tiny
checkpoints:
  - folders:
      - {{path: {one}, tokens: 1000}}
      - {{path: {two}, tokens: 2000}}
modifications:
  noise: {{gaussian: {{gamma: [0.1], init_std: 0.02}}}}
  sft:
    - finetune:
        data: sums.jsonl
        learning_rate: 1e-2
        max_steps: 2
        train_batch_size: 4
        train_max_length: 64
seeds: [0, 1]
tasks: [overtrain_text]
evaluation: {{text_file: text.jsonl, batch_size: 2, device: cpu}}
"""
CELLS = 2 * (1 + 2 + 2)


def write_study(folder: Path, one: Path, two: Path, text: str = STUDY) -> Path:
    """Write the study with its rows into ``folder``; return the YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    sums = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(6) for b in range(6)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    (folder / "study.yaml").write_text(text.format(one=one, two=two))
    return folder / "study.yaml"


def tables(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both frames without what depends on when and where."""
    frame = load_runs(root)
    documents = load_documents(root).astype({"cell_id": str, "task": str, "metric": str})
    keys = ["cell_id", "task", "metric"]
    return frame.sort_values(keys, ignore_index=True), documents.sort_values([*keys, "document"], ignore_index=True)
