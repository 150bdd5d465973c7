"""Records: what is written is what is read, files of format 1 stay readable, and whatever does not fit is refused."""
# ruff: noqa: PD011  (the values of an axis are a tuple, not a pandas array)

from __future__ import annotations

import dataclasses
import json
import shutil
import typing
from pathlib import Path

import pandas as pd
import pytest
from study_records import cell_record
from typer.testing import CliRunner

from model_wrappers.errors import StoreError
from model_wrappers.identity import digest
from overtrain.cli.app import app
from overtrain.common.typed_json import from_json, to_json
from overtrain.plan.axes import axes_of_columns
from overtrain.plan.expand import expand
from overtrain.plan.load import load_study as load_yaml
from overtrain.results.frame import load_runs, load_study
from overtrain.results.groups import groups
from overtrain.results.judged import JudgedRecord
from overtrain.results.planned import study_record
from overtrain.results.record import CellRecord, MetricRow, StudyRecord
from overtrain.results.store import FILES, Store
from overtrain.results.study_file import FORMAT, read_study, write_study
from overtrain.run.status import status

OLD = Path(__file__).parents[2] / "data" / "study_format_1.json"
STUDY = """\
name: both
checkpoints: [{repo: org/model-1b, family: one, revisions: [{revision: a, tokens: 1000}, {revision: b, tokens: 3000}]}]
modifications:
  noise: {gaussian: {gamma: [0.1, 0.3]}}
  twice: [{gaussian: {gamma: 0.1}}, {gaussian: {gamma: [0.2, 0.4]}}]
  sft: {finetune: {learning_rate: [1e-5, 2e-5], epochs: [1, 2], data: alpaca}}
seeds: [5, 2]
tasks: [overtrain_c4]
primary: {task: overtrain_c4, metric: nll_per_token, variant: noise, compare: [1000, 3000], at: 0.1}
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    return load_yaml(tmp_path / "study.yaml")


@pytest.fixture
def old(tmp_path):
    """A folder with a study of format 1."""
    shutil.copy(OLD, tmp_path / "study.json")
    return tmp_path


def test_what_is_written_is_what_is_read(study, tmp_path):
    record = study_record(study, expand(study))
    write_study(tmp_path, record)
    assert read_study(tmp_path) == record
    assert json.loads((tmp_path / "study.json").read_text())["format"] == FORMAT


def test_variants_carry_the_axes_that_their_classes_declare_and_cells_the_values(study):
    record = study_record(study, expand(study))
    noise, twice, sft = record.variants
    assert [(v.name, v.category) for v in record.variants] == [
        ("noise", "noise"),
        ("twice", "noise"),
        ("sft", "finetune"),
    ]
    assert [(a.field, a.scale, a.selected, a.values) for a in noise.varied] == [("gamma", "log", False, (0.1, 0.3))]
    assert noise.varied[0].unit == "initial standard deviations"
    assert [(a.field, a.label, a.values) for a in twice.varied] == [("gamma_2", "noise scale 2", (0.2, 0.4))]
    assert {a.field: a.values for a in sft.varied} == {"learning_rate": (1e-5, 2e-5), "epochs": (1.0, 2.0)}
    assert sft.selected is not None
    assert sft.selected.field == "learning_rate"
    assert {a.field: a.values for a in sft.axes if not a.varied}["data"] == ("alpaca",)
    cells = [c for c in record.cells if c.variant == "sft" and (c.tokens, c.seed) == (1000, 5)]
    assert [dict(c.axes) for c in cells] == [
        {"learning_rate": rate, "epochs": epochs} for rate in (1e-5, 2e-5) for epochs in (1.0, 2.0)
    ]
    assert {(c.category, c.selected, c.data) for c in cells} == {
        ("finetune", rate, ("alpaca",)) for rate in (1e-5, 2e-5)
    }
    base = next(c for c in record.cells if c.variant == "base")
    assert (base.category, dict(base.axes), base.selected, base.data) == ("base", {}, None, ())


def test_columns_of_axes_are_those_of_cells(study):
    for cell in expand(study):
        if cell.modifications:
            assert axes_of_columns([m.name for m in cell.modifications]).keys() <= cell.columns().keys()


def test_a_study_of_format_1_is_migrated(old):
    record = read_study(old)
    assert [(v.name, v.category) for v in record.variants] == [
        ("noise", "noise"),
        ("sft", "finetune"),  # fine-tuning and then noise: the step that trains decides
        ("own", "other"),
        ("chat", "finetune"),
    ]
    assert {v.name: {a.field: a.values for a in v.varied} for v in record.variants} == {
        "noise": {"gamma": (0.1, 0.2)},
        "sft": {"learning_rate": (1e-5, 2e-5)},
        "own": {"digits": (2, 3)},
        "chat": {},
    }
    own = record.variants[2].varied[0]
    assert (own.label, own.unit, own.scale, own.selected) == ("digits", "", "linear", False)
    assert record.variants[3].selected.values == (3e-5,)
    assert [c.category for c in record.cells] == ["base", *["noise"] * 2, *["finetune"] * 3, *["other"] * 2, "finetune"]
    assert [c.data for c in record.cells] == [*[()] * 3, *[("alpaca",)] * 3, *[()] * 3]
    assert (record.cells[2].cell_id, record.cells[2].problem) == (None, "not planned yet")
    assert (record.select.how, record.plateau_margin, record.same) == ("cross_fit", 0.02, ("3" * 64,))
    assert (record.primary.compare, record.primary.at) == ((1000, 3000), 0.1)
    assert record.judge.model == "judge"


def test_a_migrated_study_has_its_reference(old):
    (group, chat) = groups(read_study(old))
    assert (group.variant, group.reference.seed, group.default, len(group.cells)) == ("sft", 9, False, 2)
    assert (chat.variant, chat.default, chat.cells) == ("chat", True, ())


def test_a_migrated_study_is_written_in_todays_format(old, tmp_path):
    record = read_study(old)
    write_study(tmp_path, record)
    assert json.loads((tmp_path / "study.json").read_text())["format"] == FORMAT
    assert read_study(tmp_path) == record


def fields_of(kind):
    """Every field of every dataclass that a record is made of: class, name, annotation."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            yield kind, field.name, hints[field.name]
            yield from fields_of(hints[field.name])
    for argument in typing.get_args(kind):
        yield from fields_of(argument)


@pytest.mark.parametrize("kind", [StudyRecord, JudgedRecord])
def test_every_field_is_typed(kind):
    def is_open(annotation):
        return annotation in {typing.Any, object, dict, list, tuple} or any(map(is_open, typing.get_args(annotation)))

    found = list(fields_of(kind))
    assert len({cls for cls, _, _ in found}) > 4
    assert not [(cls.__name__, name) for cls, name, annotation in found if is_open(annotation)]


@pytest.mark.parametrize("field", dataclasses.fields(CellRecord), ids=lambda f: f.name)
def test_a_value_of_another_type_is_refused_with_its_place(field, tmp_path):
    write_study(tmp_path, StudyRecord(name="s", cells=(cell_record("x"),)))
    content = json.loads((tmp_path / "study.json").read_text())
    content["cells"][0][field.name] = [[1]]
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(
        StoreError, match=rf"study\.json is damaged \(cells\[0\]\.{field.name}\b.*delete it and run the study"
    ):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 2}', "name: is missing"),
        ('{"format": 2, "name": "s", "cels": []}', "cels: is no field of StudyRecord"),
        ('{"format": 1, "study": {}, "cells": [], "same": []}', "name: is missing"),
        ('{"format": 1, "study": {"name": "s"}, "same": []}', "'cells'"),
        (
            f'{{"format": {FORMAT + 1}, "name": "s"}}',
            f"has format {FORMAT + 1}, .* reads formats 1 to {FORMAT}; install",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_error(tmp_path, content, message):
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        load_runs(tmp_path)


def test_numbers_keep_their_kind():
    row = from_json(MetricRow, {"task": "t", "metric": "m", "value": 1, "n_documents": 40.0})
    assert (type(row.value), type(row.n_documents)) == (float, int)
    cell = from_json(
        CellRecord, to_json(cell_record("x", fields={"epochs": 2.0, "steps": 2, "name": "2", "fsdp": True}))
    )
    assert [type(value) for value in cell.fields.values()] == [float, int, str, bool]
    with pytest.raises(ValueError, match=r"n_documents: 0\.5 is not an integer"):
        from_json(MetricRow, {"task": "t", "metric": "m", "n_documents": 0.5})


def old_folder(root, study):
    """Write the study as format 1 did, every cell but the last one finished; return the number of cells."""
    store, entries, cells = Store(root), [], expand(study)
    store.prepare()
    for number, cell in enumerate(cells):
        cell_id = digest({"number": number})
        entries.append({
            "key": cell.key, "cell_id": cell_id, "weights_id": cell_id[::-1], "problem": None, "label": cell.label,
            "checkpoint": cell.checkpoint, "family": cell.point.family, "run": cell.point.run, "tokens": cell.point.tokens,
            "checkpoint_learning_rate": None, "variant": cell.variant, "modification": cell.modification, "seed": cell.seed,
            "fields": cell.columns(),
        })  # fmt: skip
        if number == len(cells) - 1:
            continue
        loss = [3.0 + 0.01 * number + 0.1 * document for document in range(4)]
        row = {"task": "overtrain_c4", "metric": "nll_per_token", "value": sum(loss) / 4, "stderr": 0.1}
        table = pd.DataFrame({"document": range(4), "value": loss, "weight": 1.0})
        table.assign(task="overtrain_c4", metric="nll_per_token").to_parquet(root / "rows.parquet", index=False)
        files = dict.fromkeys(FILES, b"{}") | {
            "spec.json": json.dumps({"identity": {"number": number}}).encode(),
            "metrics.json": json.dumps([row | {"n_documents": 4, "higher_is_better": False}]).encode(),
            "documents.parquet": (root / "rows.parquet").read_bytes(),
        }
        store.write(cell_id, files, "done", started=0.0)
    about = {
        "name": study.name, "description": "", "tasks": list(study.tasks), "seeds": list(study.seeds), "budgets": [1000, 3000],
        "variants": {v.name: {k: list(values) for k, values in v.axes.items()} for v in study.variants},
        "select": {"task": "training", "metric": "validation_loss"}, "reference": None, "judge": None,
        "primary": {"task": "overtrain_c4", "metric": "nll_per_token", "variant": "noise", "compare": [1000, 3000], "at": 0.1},
        "plateau_margin": None,
    }  # fmt: skip
    (root / "study.json").write_text(json.dumps({"format": 1, "study": about, "cells": entries, "same": []}))
    return len(cells)


def test_status_and_report_read_the_old_layout(study, tmp_path):
    root = tmp_path / "runs" / study.name
    root.mkdir(parents=True)
    count = old_folder(root, study)
    found = status(study, tmp_path / "runs")
    assert (found.count("done"), found.count("missing")) == (count - 1, 1)
    frame = load_runs(root)
    assert frame.groupby("variant")["category"].unique().map(list).to_dict() == {
        "base": ["base"], "noise": ["noise"], "twice": ["noise"], "sft": ["finetune"],
    }  # fmt: skip
    result = CliRunner().invoke(app, ["report", str(root)])
    assert result.exit_code == 0, result.output
    page = (root / "report" / "index.html").read_text()
    assert "noise" in page
    assert "overtrain_c4" in page
