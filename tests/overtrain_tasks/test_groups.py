"""Groups weigh their tasks equally, MMLU once, with lm-eval's standard error of an unweighted mean."""

from __future__ import annotations

import math

import pytest
from lm_eval import evaluator

from model_wrappers.compat import mend_groups

pytestmark = pytest.mark.spine

CORE8 = ("arc_challenge", "arc_easy", "piqa", "winogrande", "boolq", "copa", "sciq", "hellaswag")
TEN = (*CORE8, "openbookqa", "mmlu")


def hand_set(values, stderrs, sizes):
    """Task results as lm-eval keeps them."""
    return {
        f"overtrain_{name}": {
            "primary,none": values[name],
            "primary_stderr,none": stderrs[name],
            "bits_per_byte,none": 2 * values[name],
            "bits_per_byte_stderr,none": 2 * stderrs[name],
            "sample_len": sizes[name],
        }
        for name in TEN
    }


def test_members(real_rows, task_manager):
    loaded = task_manager.load(["overtrain_ten"])
    assert set(loaded["tasks"]) == {f"overtrain_{name}" for name in TEN}
    assert [t.task_name for t in loaded["groups"]["overtrain_core8"].get_all_tasks()] == [
        f"overtrain_{n}" for n in CORE8
    ]
    assert len(loaded["groups"]["overtrain_ten"].get_all_tasks()) == 10


def test_hand_set_scores(real_rows, task_manager):
    groups = task_manager.load(["overtrain_ten"])["groups"]
    mend_groups(groups)
    values = {name: 0.1 * index for index, name in enumerate(TEN)}  # mmlu 0.9
    stderrs = {name: 0.01 * (index + 1) for index, name in enumerate(TEN)}
    sizes = dict.fromkeys(TEN, 100) | {"mmlu": 14042, "hellaswag": 10042}
    results = hand_set(values, stderrs, sizes)

    ten = groups["overtrain_ten"].aggregate(results)
    assert ten["primary,none"] == pytest.approx(0.45)  # not 0.57 or more, as with MMLU's 57 subjects or its size
    assert ten["primary_stderr,none"] == pytest.approx(math.sqrt(sum((0.01 * i) ** 2 for i in range(1, 11))) / 10)
    assert ten["bits_per_byte,none"] == pytest.approx(0.9)
    assert ten["bits_per_byte_stderr,none"] == pytest.approx(2 * ten["primary_stderr,none"])

    core8 = groups["overtrain_core8"].aggregate(results)
    assert core8["primary,none"] == pytest.approx(0.35)
    assert core8["primary_stderr,none"] == pytest.approx(math.sqrt(sum((0.01 * i) ** 2 for i in range(1, 9))) / 8)


def test_evaluated(real_rows, task_manager, hash_lm):
    loaded = task_manager.load(["overtrain_ten"])
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(1234)
    results = evaluator.evaluate(lm=hash_lm, task_dict=loaded, limit=12, log_samples=False)["results"]
    for group, members in (("overtrain_ten", TEN), ("overtrain_core8", CORE8)):
        for metric in ("primary", "bits_per_byte"):
            of_tasks = [results[f"overtrain_{name}"] for name in members]
            assert [t["sample_len"] for t in of_tasks] == [12] * len(members)
            mean = sum(t[f"{metric},none"] for t in of_tasks) / len(members)
            stderr = math.sqrt(sum(t[f"{metric}_stderr,none"] ** 2 for t in of_tasks)) / len(members)
            assert results[group][f"{metric},none"] == pytest.approx(mean)
            assert results[group][f"{metric}_stderr,none"] == pytest.approx(stderr)
            assert stderr > 0
