"""Labels of a grid, and what modifications say of a cell's columns."""

from __future__ import annotations

import itertools

import pytest

from model_wrappers.modifications.registry import registry
from overtrain.plan.axes import axes_of_columns, columns_of, data_of_columns, grid_labels


def grid(**axes):
    given = {"data": "a.jsonl", "learning_rate": 1e-5}
    points = itertools.product(*axes.values())
    return [(registry()["finetune"].parse(given | dict(zip(axes, point, strict=True))),) for point in points]


VALUES = {
    "data": ["x/rows.jsonl", "y/rows.jsonl"],
    "data_limit": [None, 10],
    "learning_rate": [1e-5, 1.0001e-5],
    "lr_scheduler": ["cosine", "linear"],
    "precision": ["fp32", "bf16"],
    "max_grad_norm": [0, 1],
}


@pytest.mark.parametrize("fields", list(itertools.combinations(VALUES, 2)))
def test_a_grid_over_any_fields_gives_distinct_labels_that_name_exactly_these_fields(fields):
    labels = grid_labels(grid(**{name: VALUES[name] for name in fields}))
    assert len(set(labels)) == 4
    assert {word.partition("=")[0] for label in labels for word in label.split()} == set(fields)


def test_declared_axes_come_first_and_paths_are_shortened_where_that_tells_them_apart():
    labels = grid_labels(grid(precision=["fp32", "bf16"], data=["x/one.jsonl", "y/two.jsonl"]))
    assert labels[:2] == ["data=one.jsonl precision=fp32", "data=two.jsonl precision=fp32"]
    (alone,) = grid_labels(grid(learning_rate=[1e-4]))
    assert alone == ""


def test_steps_of_one_kind_have_columns_of_their_own():
    gaussian = registry()["gaussian"]
    points = [(gaussian.parse({"gamma": a}), gaussian.parse({"gamma": b})) for a in (0.1, 0.2) for b in (0.3, 0.4)]
    assert grid_labels(points)[0] == "gamma=0.1 gamma_2=0.3"
    assert len(set(grid_labels(points))) == 4
    assert [c.name for c in columns_of([gaussian] * 3) if c.field == "gamma"] == ["gamma", "gamma_2", "gamma_3"]
    assert [c.step for c in columns_of([gaussian] * 3) if c.field == "gamma"] == [0, 1, 2]


def test_columns_have_the_axes_and_files_that_their_classes_declare():
    axes = axes_of_columns(["finetune", "gaussian", "gaussian"])
    assert axes["learning_rate"].selected
    assert (axes["gamma_2"].unit, axes["gamma_2"].scale) == (axes["gamma"].unit, "log")
    assert data_of_columns(["finetune"], {"data": "alpaca", "learning_rate": 1.0}) == ("alpaca",)
    assert data_of_columns(["gaussian"], {"gamma": 0.1}) == ()
