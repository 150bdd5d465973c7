"""Which cell AlpacaEval's answers are compared with."""

from __future__ import annotations

import dataclasses

import pytest

from model_wrappers.errors import ConfigError
from overtrain.plan.expand import expand
from overtrain.plan.load import load_study
from overtrain.results.groups import groups
from overtrain.results.planned import study_record
from overtrain_tasks.alpaca_eval import TASK

STUDY = """\
name: answers
checkpoints:
  - repo: org/model-1b
    family: one
    revisions: [{revision: a, tokens: 1000}, {revision: b, tokens: 3000}, {revision: c, tokens: 2000}]
modifications:
  noise: {gaussian: {gamma: 0.1}}
  sft: {finetune: {learning_rate: [4e-5, 1e-5, 2e-5, 8e-5], data: alpaca}}
seeds: [5, 2]
tasks: [overtrain_c4, overtrain_alpaca_eval]
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return path

    return write


def record_of(study):
    """The record of a study; the number of a cell stands for its identity."""
    record = study_record(study, expand(study))
    cells = (dataclasses.replace(c, cell_id=f"{n:02d}" + "a" * 62) for n, c in enumerate(record.cells))
    return dataclasses.replace(record, cells=tuple(cells))


def chosen(study, override=None):
    return [
        (g.variant, g.reference.tokens, g.reference.fields.get("learning_rate"), g.reference.seed, g.default)
        for g in groups(record_of(study), override)
    ]


def test_the_default_is_the_lower_middle_rate_at_the_last_checkpoint_and_the_first_seed(write):
    study = load_study(write(STUDY))
    assert chosen(study) == [("sft", 3000, 2e-5, 5, True)]
    (group,) = groups(record_of(study))
    assert len(group.cells) == 3 * 4 * 2 - 1
    assert all(cell.variant == "sft" for cell in group.cells)
    assert group.reference not in group.cells


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("{checkpoint: 2000}", ("sft", 2000, 2e-5, 5, False)),
        ("{checkpoint: org/model-1b@a, learning_rate: 8e-5}", ("sft", 1000, 8e-5, 5, False)),
        ("{seed: 2, variant: sft}", ("sft", 3000, 2e-5, 2, False)),
    ],
)
def test_a_study_names_another(write, given, expected):
    study = load_study(write(f"{STUDY}reference: {given}\n"))
    assert chosen(study) == [expected]
    assert len(expand(study)) == len(expand(load_study(write(STUDY))))


def test_a_seed_of_its_own_is_one_more_cell_with_the_answers_alone(write):
    before = expand(load_study(write(STUDY)))
    study = load_study(write(f"{STUDY}reference: {{seed: 7, checkpoint: 1000, learning_rate: 1e-5}}\n"))
    *same, extra = expand(study)
    assert [cell.key for cell in same] == [cell.key for cell in before]
    assert (extra.tasks, extra.curve, extra.seed, extra.point.tokens) == ((TASK,), False, 7, 1000)
    assert (extra.modifications[0].seed, extra.modifications[0].learning_rate) == (7, 1e-5)
    assert chosen(study) == [("sft", 1000, 1e-5, 7, False)]
    (group,) = groups(record_of(study))
    assert len(group.cells) == 3 * 4 * 2  # none is left out
    (other,) = groups(record_of(study), "org/model-1b@b sft*learning_rate=1e-05*seed=2")
    assert (other.reference.seed, other.default) == (2, False)
    assert len(other.cells) == 3 * 4 * 2 - 1  # and the cell of its own is on no curve, so it is not judged either


def test_every_variant_family_and_data_set_has_its_own(write):
    two = STUDY.replace("data: alpaca", "data: [alpaca, tulu]").replace(
        "seeds:", "  lora: {lora: {lora_rank: 2, learning_rate: [1e-4, 2e-4], data: tulu}}\nseeds:"
    )
    two = two.replace(
        "modifications:",
        "  - {repo: org/other-1b, family: two, revisions: [{revision: a, tokens: 500}]}\nmodifications:",
    )
    study = load_study(write(two))
    found = groups(record_of(study))
    names = [(g.family, g.variant, g.reference.fields["data"], g.reference.tokens) for g in found]
    assert names == [
        ("one", "sft", "alpaca", 3000),
        ("one", "sft", "tulu", 3000),
        ("one", "lora", "tulu", 3000),
        ("two", "sft", "alpaca", 500),
        ("two", "sft", "tulu", 500),
        ("two", "lora", "tulu", 500),
    ]
    assert all(cell.fields["data"] == g.reference.fields["data"] for g in found for cell in g.cells)
    named = load_study(write(f"{two}reference: {{variant: lora, learning_rate: 2e-4}}\n"))
    given = {(g.family, g.variant): g.default for g in groups(record_of(named))}
    assert given == {("one", "sft"): True, ("one", "lora"): False, ("two", "sft"): True, ("two", "lora"): False}


def test_a_cell_of_the_command_line_replaces_the_reference_of_its_group(write):
    study = load_study(write(STUDY))
    record = record_of(study)
    wanted = [cell for cell in record.cells if cell.answers][3]
    for name in (wanted.cell_id, wanted.cell_id[:8], wanted.label):
        (group,) = groups(record, name)
        assert group.reference is wanted
        assert not group.default
        assert wanted not in group.cells


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "org/model-1b@a sft learning_rate=1e-05 sed=5",
            "no cell; did you mean 'org/model-1b@a sft learning_rate=1e-05",
        ),
        ("noise", "no cell"),
        ("seed=5", "12 cells ('org/model-1b@a sft learning_rate=4e-05 seed=5'"),
    ],
)
def test_a_name_of_no_cell_or_of_several_is_refused(write, name, message):
    with pytest.raises(ConfigError, match="reference=") as caught:
        groups(record_of(load_study(write(STUDY))), name)
    assert message in str(caught.value)


def test_a_study_without_answers_has_no_groups(write):
    assert groups(record_of(load_study(write(STUDY.replace(", overtrain_alpaca_eval", ""))))) == []


def test_a_checkpoint_that_was_tuned_elsewhere_has_the_seeds_that_it_has(write):
    tuned = (
        "  - {repo: org/model-1b-chat, base: {repo: org/model-1b, revision: c, tokens: 2000}, family: one, variant: chat,"
        " seed: 1, fields: {learning_rate: 1e-5}}\nmodifications:"
    )
    text = STUDY.replace("modifications:", tuned)
    study = load_study(write(text))
    assert chosen(study)[1:] == [("chat", 2000, 1e-5, 1, True)]
    with pytest.raises(ConfigError, match=r"reference\.seed=3: chat was tuned elsewhere, with no such seed"):
        load_study(write(f"{text}reference: {{variant: chat, seed: 3}}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reference: {checkpoint: 4000}", "reference.checkpoint=4000: no tuned checkpoint"),
        ("reference: {variant: sfft}", "reference.variant='sfft': no tuned variant; did you mean 'sft'?"),
        ("reference: {variant: noise}", "reference.variant='noise': no tuned variant"),
        ("reference: {learning_rate: 3e-5}", "reference.learning_rate=3e-05: not in the grid (there: 1e-05, 2e-05, 4e-05, 8"),
        ("reference: {sead: 1}", "unknown key 'sead'; did you mean 'seed'?"),
        ("judge: {url: localhost}", "judge.url='localhost': must be an address such as http://127.0.0.1:8000/v1"),
        ("judge: {url: 'http://a:b@host/v1'}", "without a password"),
        ("judge: {orders: three}", "judge.orders='three': must be one of both, one"),
        ("judge: {max_missing: 1.5}", "judge.max_missing=1.5: must be a share from 0 to 1"),
        ("judge: {concurrency: 0}", "judge.concurrency=0: must be greater than 0"),
        ("select: alpaca", "select='alpaca': must be alpaca_eval, paper, or a mapping"),
        ("select: {task: overtrain_alpaca_eval, metric: win_rate}", "give select: alpaca_eval (cross-fitted)"),
        ("select: paper\nkeep_weights: best", "keep_weights=best: win rates are known after judging only"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(write, text, message):
    with pytest.raises(ConfigError) as caught:
        load_study(write(f"{STUDY}{text}\n"))
    assert message in str(caught.value)
    assert f"line {len(STUDY.splitlines()) + 1 + text.count(chr(10))}: " in str(caught.value)


@pytest.mark.parametrize(
    "text", ["select: alpaca_eval", "select: paper", "reference: {seed: 1}", "judge: {url: 'http://a/v1'}"]
)
def test_win_rates_need_answers(write, text):
    with pytest.raises(ConfigError, match="nothing generates answers; add overtrain_alpaca_eval to tasks"):
        load_study(write(f"{STUDY.replace(', overtrain_alpaca_eval', '')}{text}\n"))


def test_steps_that_fix_their_seed_cannot_have_another(write):
    fixed = STUDY.replace("data: alpaca}", "data: alpaca, seed: 9}")
    with pytest.raises(ConfigError, match=r"reference\.seed=3: the steps of sft fix their seed"):
        load_study(write(f"{fixed}reference: {{seed: 3}}\n"))


def test_answers_alone_leave_base_cells_without_a_task(write):
    with pytest.raises(ConfigError, match="line 10: tasks: overtrain_alpaca_eval alone leaves"):
        load_study(write(STUDY.replace("overtrain_c4, ", "")))


def test_what_a_study_says_of_itself(write):
    text = "reference: {seed: 7}\njudge: {url: 'http://127.0.0.1:8000/v1', model: m, max_missing: 0}\nselect: alpaca_eval\n"
    study = load_study(write(f"{STUDY}{text}"))
    about = study_record(study, expand(study))
    assert (about.reference.seed, about.reference.checkpoint) == (7, None)
    assert (about.judge.url, about.judge.model, about.judge.orders) == ("http://127.0.0.1:8000/v1", "m", "both")
    assert about.judge.max_missing == 0.0
    assert (about.select.task, about.select.metric, about.select.how) == (TASK, "win_rate", "cross_fit")
    plain = study_record(load_study(write(STUDY)), [])
    assert (plain.reference, plain.judge) == (None, None)
    assert (plain.select.task, plain.select.metric) == ("training", "validation_loss")
    assert load_study(write(f"{STUDY}select: paper\n")).select.how == "reported"
