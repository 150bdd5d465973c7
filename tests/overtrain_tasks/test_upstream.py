"""The same requests and the same metrics as lm-eval's own tasks, on the same real rows."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import lm_eval.tasks
import pytest
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from model_wrappers.compat import jinja_environment, tasks_of_0_5
from overtrain_tasks.generalist.mmlu import SUBJECTS

pytestmark = pytest.mark.spine

UPSTREAM = Path(lm_eval.tasks.__file__).parent
YAMLS = {
    "arc_challenge": "arc/arc_challenge.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "piqa": "piqa/piqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "copa": "super_glue/copa/default.yaml",
    "sciq": "sciq/sciq.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
}
# The sample rows of SciQ have no training split: upstream's YAML is pointed at what ours falls back to.
OVERRIDES = {"sciq": {"training_split": None, "fewshot_split": "heldout"}}
DOCUMENTS = 60


def upstream_task(yaml, folder, **overrides):
    """Upstream's task, prompts and metrics its own, over the rows of a folder."""

    def splits(**_):
        return {
            file.stem: Dataset.from_list([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()])
            for file in folder.glob("*.jsonl")
        }

    config = load_yaml(UPSTREAM / yaml)
    config.pop("tag", None)
    made = {**config, "num_fewshot": 5, "custom_dataset": splits, **overrides}
    return ConfigurableTask.from_config(made) if tasks_of_0_5() else ConfigurableTask(config=made)


def scores(task, lm, **kwargs):
    """Metrics of every document, by the strings of its requests."""
    by_document = defaultdict(list)
    for instance in task.instances:
        by_document[instance.doc_id].append(instance)
    return {
        tuple(i.args for i in by_document[number]): of_document(task, doc, by_document[number], lm)
        for number, doc in task.doc_iterator(**kwargs)
    }


def of_document(task, doc, requests, lm):
    answers = lm.loglikelihood(requests)
    metrics = task.process_results(doc, answers)
    if metrics is not None:
        return metrics
    (scorer,) = task.scorers  # where lm-eval 0.5's own tasks have their metrics
    for request, answer in zip(requests, answers, strict=True):
        request.filtered_resps = {scorer.name: [answer]}
    return {name: value for name, (value,) in scorer.score_doc(0, requests).scores.items()}


@pytest.mark.parametrize("name", YAMLS)
def test_requests_and_metrics_equal_upstreams(name, real_rows, task_manager, build, hash_lm):
    theirs = upstream_task(YAMLS[name], real_rows / name, **OVERRIDES.get(name, {}))
    ours = task_manager.load([f"overtrain_{name}"])["tasks"][f"overtrain_{name}"]
    assert ours.config.num_fewshot == 5

    expected = build(theirs, limit=DOCUMENTS)
    assert len({document for document, _, _ in expected}) == DOCUMENTS
    assert build(ours, limit=DOCUMENTS) == expected

    their_scores = scores(theirs, hash_lm, limit=DOCUMENTS)
    our_scores = scores(ours, hash_lm, limit=DOCUMENTS)
    assert our_scores.keys() == their_scores.keys()
    has_norm = any(metric["metric"] == "acc_norm" for metric in theirs.config.metric_list)
    for key, metrics in our_scores.items():
        added = {name: metrics.pop(name) for name in ("primary", "bits_per_byte")}
        assert metrics == their_scores[key]
        assert added["primary"] == metrics["acc_norm" if has_norm else "acc"]
        assert added["bits_per_byte"] > 0
    assert 0 < sum(metrics["acc"] for metrics in our_scores.values()) < DOCUMENTS


def test_prompts_differ_by_seed_and_by_document(real_rows, task_manager, build):
    """The comparison above would be empty if every document had the same examples."""
    task = task_manager.load(["overtrain_arc_easy"])["tasks"]["overtrain_arc_easy"]
    first, second = build(task, limit=2), build(task, seed=7, limit=2)
    assert first != second
    prefixes = {context.partition("\n\n")[0] for _, _, (context, _) in first}
    assert len(prefixes) == 2


def test_mmlu_equals_upstreams_subjects(real_rows, task_manager, build, hash_lm):
    ours = task_manager.load(["overtrain_mmlu"])["tasks"]["overtrain_mmlu"]
    requests = build(ours)
    our_scores = scores(ours, hash_lm)
    subjects = [*SUBJECTS[::6], "us_foreign_policy"]
    theirs, their_scores = set(), {}
    for subject in subjects:
        task = upstream_task(f"mmlu/default/mmlu_{subject}.yaml", real_rows / "mmlu" / subject)
        theirs |= {(number, strings) for _, number, strings in build(task)}
        their_scores |= scores(task, hash_lm)
    assert len(their_scores) >= 50
    assert theirs <= {(number, strings) for _, number, strings in requests}
    for key, metrics in their_scores.items():
        ours_here = our_scores[key]
        assert {"acc": ours_here["acc"]} == metrics
        assert ours_here["primary"] == metrics["acc"]


def test_mmlu_names_upstreams_subjects_and_descriptions(task_manager):
    config = {}
    for yaml in (UPSTREAM / "mmlu" / "default").glob("mmlu_*.yaml"):
        loaded = load_yaml(yaml)
        config[loaded["dataset_name"]] = loaded["description"]
    assert set(config) == set(SUBJECTS)
    template = jinja_environment().from_string(
        load_yaml(entries(task_manager)["overtrain_mmlu"].yaml_path)["description"]
    )
    assert {subject: template.render(subject=subject) for subject in SUBJECTS} == config


def entries(manager):
    return manager._task_index if tasks_of_0_5() else manager.task_index


def test_every_task_reads_upstreams_data_set(task_manager):
    keys = ("dataset_path", "dataset_name", "training_split", "test_split", "output_type")
    for name, yaml in YAMLS.items():
        theirs = load_yaml(UPSTREAM / yaml)
        ours = load_yaml(entries(task_manager)[f"overtrain_{name}"].yaml_path)
        assert {k: ours.get(k) for k in keys} == {k: theirs.get(k) for k in keys}, name
