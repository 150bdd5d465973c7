"""Where a study stands: every cell counts once, whatever its label."""

from __future__ import annotations

import shutil

from overtrain_tiny import STUDY, write_study

from overtrain.plan.expand import expand
from overtrain.plan.load import load_study
from overtrain.run import evaluate
from overtrain.run.status import status
from overtrain.run.sweep import run

GRID = STUDY.replace("max_steps: 2", "epochs: [1, 2]\n        l2_to_init: [0, 0.1]").replace(
    "seeds: [0, 1]", "seeds: [0]"
)


def test_a_grid_over_fields_without_rates_has_a_label_and_a_failure_per_cell(make_model, tmp_path, monkeypatch):
    study = write_study(tmp_path, make_model("olmo", seed=0), make_model("olmo", seed=1), GRID)
    labels = [cell.label.partition(" ")[2] for cell in expand(load_study(study)) if cell.variant == "sft"]
    settings = [f"epochs={e} l2_to_init={w}" for e in (1.0, 2.0) for w in (0.0, 0.1)]
    assert labels == [f"sft {setting} seed=0" for setting in settings] * 2

    def fail(self, job):
        raise RuntimeError(f"boom {job.cell.setting}")

    monkeypatch.setattr(evaluate.Session, "evaluate", fail)
    run(study, tmp_path / "runs", only=["sft"])
    failed = status(study, tmp_path / "runs").failed
    assert sorted(failed) == sorted(cell.key for cell in expand(load_study(study)) if cell.variant == "sft")
    assert {note.text for note in failed.values()} == {f"RuntimeError: boom {setting}" for setting in settings}
    assert all(note.text.partition("boom ")[2] in note.label for note in failed.values())


def test_cells_with_equal_labels_are_all_counted(make_model, tmp_path, monkeypatch):
    """Two tuned checkpoints in folders of one name: the labels agree, the cells do not."""
    base = make_model("olmo", seed=0)
    tuned = [make_model("olmo", seed=seed) for seed in (1, 2)]
    for place, folder in enumerate(tuned):
        shutil.copytree(folder, tmp_path / str(place) / "final")
    (tmp_path / "text.jsonl").write_text('{"text": "One."}\n')
    (tmp_path / "study.yaml").write_text(
        f"""\
name: tiny
checkpoints:
  - {{folder: {tmp_path}/0/final, base: {{folder: {base}, tokens: 1000}}, variant: sft}}
  - {{folder: {tmp_path}/1/final, base: {{folder: {base}, tokens: 1000}}, variant: sft}}
tasks: [overtrain_text]
evaluation: {{text_file: text.jsonl, device: cpu}}
"""
    )

    def fail(self, job):
        raise RuntimeError("boom")

    monkeypatch.setattr(evaluate.Session, "evaluate", fail)
    summary = run(tmp_path / "study.yaml", tmp_path / "runs", only=["sft"])
    assert len(set(summary.failed)) == 1
    assert len(status(tmp_path / "study.yaml", tmp_path / "runs").failed) == 2
