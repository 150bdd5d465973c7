"""Study files: every error at once with its line, includes, grids, seeds, units."""

from __future__ import annotations

import pytest

from model_wrappers.errors import ConfigError
from overtrain.plan.cells import select_cells
from overtrain.plan.expand import expand
from overtrain.plan.load import load_study
from overtrain.study.presets import find_preset, preset_names

GOOD = """\
name: small
checkpoints:
  - repo: allenai/OLMo-1B-hf
    family: OLMo-1B
    revisions: [step10000-tokens41B, {revision: step738000-tokens3094B, learning_rate: 4e-5}]
modifications:
  noise:
    - gaussian: {gamma: [0.05, 1e-1]}
seeds: [0, 1]
tasks: [overtrain_c4]
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="study.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def errors(path):
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    return str(caught.value).splitlines()


def test_a_grid_a_base_cell_per_checkpoint_and_units(write):
    study = load_study(write(GOOD))
    cells = expand(study)
    assert len(cells) == 2 * (1 + 2 * 2)
    assert [c.variant for c in cells[:5]] == ["base", "noise", "noise", "noise", "noise"]
    assert cells[0].point.tokens == 41_000_000_000
    assert cells[-1].point.tokens == 3_094_000_000_000
    assert cells[-1].point.learning_rate == 4e-5
    assert [(c.modifications[0].gamma, c.seed) for c in cells[1:5]] == [(0.05, 0), (0.05, 1), (0.1, 0), (0.1, 1)]
    assert all(c.modifications[0].seed == c.seed for c in cells[1:5])
    assert len({c.key for c in cells}) == len(cells)


def test_every_error_at_once_with_its_line_and_the_closest_name(write):
    bad = write(
        """\
name: a b
checkpoints:
  - repo: allenai/OLMo-1B-hf
    revisions: [main]
  - ladder: {budgets: [20480], widht: 3}
modifications:
  one: {gausian: {gamma: 1}}
  two: {gaussian: {gamma: [0.1, -2], init_std: 0.02}}
  three:
    finetune:
      learning_rate: [1e-5, fast]
      data: alpaca
      warmup_step: 3
seeds: [0, 1, 1]
tasks: [overtrain_tne, mmlu]
taks: x
plateau_margin: -1
keep_weights: some
"""
    )
    first, *found = errors(bad)
    assert first == f"{bad}: 12 errors"
    expected = {
        1: "letters, digits",
        4: "how many tokens 'main' has seen; give tokens",
        5: "unknown key 'widht'; did you mean 'width'?",
        7: "no modification 'gausian'; did you mean 'gaussian'?",
        8: "gamma=-2.0: must be 0 or more",
        11: "learning_rate='fast': must be a finite number",
        13: "unknown key 'warmup_step'; did you mean 'warmup_steps'?",
        14: "seeds: 1 is given twice",
        15: "no task 'overtrain_tne'; did you mean 'overtrain_ten'?",
        16: "unknown key 'taks'; did you mean 'tasks'?",
        17: "plateau_margin=-1.0: must be greater than 0",
        18: "keep_weights='some': must be one of none, best, all",
    }
    assert len(found) == len(expected)
    for line, (number, words) in zip(found, expected.items(), strict=True):
        assert line.startswith(f"  line {number}: "), line
        assert words in line


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        ("tasks: [overtrain_c4]", "", "study: needs 'tasks'"),
        ("tasks: [overtrain_c4]", "tasks: []", "must be a list with at least one item"),
        ("tasks: [overtrain_c4]", "tasks: [overtrain_c4]\nseeds: [3]", "'seeds' is given twice"),
        ("tasks: [overtrain_c4]", "tasks: [overtrain_text]", "needs a text; give evaluation: {text_file: FILE}"),
        ("seeds: [0, 1]", "seeds: !!python/name:os.system", "not plain data"),
        ("seeds: [0, 1]", "seeds: [0, 1.5]", "seeds=1.5: must be an integer"),
        ("seeds: [0, 1]", "evaluation: {batch_size: many}", "batch_size='many': must be an integer of 1 or more, or auto"),
        ("seeds: [0, 1]", "evaluation: {limit: 0}", "limit=0: must be greater than 0"),
        ("seeds: [0, 1]", "evaluation: {text_file: no.jsonl}", "text_file='no.jsonl': no such file"),
        ("seeds: [0, 1]", "primary: {task: t, metric: m, variant: nois, compare: [41_000_000_000, 3_094_000_000_000]}",
         "no such variant; did you mean 'noise'?"),
        ("seeds: [0, 1]", "primary: {task: t, metric: m, variant: noise, compare: [41_000_000_000, 3]}",
         "no checkpoint has seen 3 tokens (there: 41000000000, 3094000000000)"),
        ("  noise:", "  base:", "'base' is the unmodified checkpoint"),
        ("    - gaussian: {gamma: [0.05, 1e-1]}", "    - gaussian: {gamma: 0.1, seed: [1]}", "several seeds go under seeds:"),
        ("    - gaussian: {gamma: [0.05, 1e-1]}", "    - gaussian: {gamma: [0.1, 0.10]}", "gamma: 0.1 is given twice"),
        ("    - gaussian: {gamma: [0.05, 1e-1]}", "    - gaussian:", "gaussian needs gamma"),
        ("    revisions: [step10000-tokens41B,", "    revisions: [step10000-tokens41B, step10000-tokens41B,", "is there twice"),
    ],
)  # fmt: skip
def test_what_is_refused(write, line, replacement, message):
    assert line in GOOD
    assert any(message in text for text in errors(write(GOOD.replace(line, replacement))))


def test_a_file_that_is_no_mapping_or_no_yaml(write):
    assert "must be a mapping" in errors(write("- a"))[0]
    assert "line 2: not valid YAML" in errors(write("a: 1\nb: ]"))[0]


def test_include_lays_the_file_over_others_and_merges_mappings(write):
    write("seeds: [5]\nevaluation: {limit: 3, dtype: float32}\ntasks: [mmlu]\n", "_under.yaml")
    study = load_study(write("include: _under.yaml\n" + GOOD + "evaluation: {limit: 7}\n"))
    assert study.seeds == (0, 1)
    assert study.tasks == ("overtrain_c4",)
    assert (study.evaluation.limit, study.evaluation.dtype) == (7, "float32")


def test_an_error_in_an_included_file_names_that_file(write):
    write("evaluation: {limt: 3}\n", "_under.yaml")
    found = errors(write("include: _under.yaml\n" + GOOD))
    assert "_under.yaml, line 1" in found[1]
    assert "did you mean 'limit'?" in found[1]


def test_files_that_include_each_other_are_refused(write):
    write("include: b.yaml\n", "a.yaml")
    with pytest.raises(ConfigError, match="includes itself"):
        load_study(write("include: a.yaml\n", "b.yaml"))


def test_neutral_modifications_are_the_base_cell(write):
    cells = expand(load_study(write(GOOD.replace("[0.05, 1e-1]", "[0, 0.05]"))))
    assert [c.variant for c in cells[:3]] == ["base", "noise", "noise"]
    assert {c.modifications[0].gamma for c in cells if c.modifications} == {0.05}


def test_two_steps_share_axes_and_columns_get_a_suffix(write):
    text = GOOD.replace(
        "    - gaussian: {gamma: [0.05, 1e-1]}",
        "    seeds: [7]\n    steps:\n      - finetune: {data: alpaca, learning_rate: [1e-5, 1e-4], max_steps: 2}\n"
        "      - gaussian: {gamma: [0.1, 0.2]}\n      - gaussian: {gamma: 0.3, seed: 4}",
    )
    cells = [c for c in expand(load_study(write(text))) if c.variant == "noise"][:4]
    columns = [c.columns() for c in cells]
    assert [(c["learning_rate"], c["gamma"], c["gamma_2"], c["seed_3"]) for c in columns] == [
        (1e-5, 0.1, 0.3, 4), (1e-5, 0.2, 0.3, 4), (1e-4, 0.1, 0.3, 4), (1e-4, 0.2, 0.3, 4),
    ]  # fmt: skip
    assert all("seed_2" not in c for c in columns)
    assert {c.modification for c in cells} == {"finetune+gaussian+gaussian"}
    assert {c.seed for c in cells} == {7}


def test_a_field_that_is_a_list_is_no_axis(write):
    step = "    - lora: {data: alpaca, learning_rate: 1e-4, lora_rank: [4, 8], lora_targets: [q_proj, v_proj]}"
    study = load_study(write(GOOD.replace("    - gaussian: {gamma: [0.05, 1e-1]}", step)))
    assert study.variants[0].axes == {"lora_rank": (4, 8)}
    assert {m.lora_targets for (m,) in study.variants[0].grid} == {("q_proj", "v_proj")}


def test_what_is_no_part_of_the_result_is_no_part_of_the_key(write):
    one = expand(load_study(write(GOOD)))
    other = GOOD.replace("name: small", "name: other\nevaluation: {batch_size: 3, device: cpu}\nkeep_weights: all")
    two = expand(load_study(write(other.replace("noise:", "renamed:"))))
    assert [c.key for c in one] == [c.key for c in two]
    three = expand(load_study(write(GOOD + "evaluation: {limit: 5}\n")))
    assert not {c.key for c in one} & {c.key for c in three}


def test_ladders_have_one_run_per_initialisation(write):
    study = load_study(
        write(
            "name: l\ncheckpoints: [{ladder: {budgets: [20_480, 40_960], init_seeds: [0, 3], width: 8}, family: f}]\n"
            "tasks: overtrain_text\n"
        )
    )
    assert [(p.run, p.tokens, p.ladder.recipe.seed, p.family) for p in study.points] == [
        ("seed-0", 20480, 0, "f"), ("seed-0", 40960, 0, "f"), ("seed-3", 20480, 3, "f"), ("seed-3", 40960, 3, "f"),
    ]  # fmt: skip
    assert {p.label for p in study.points} == {f"seed-{s}/tokens-{t}" for s in (0, 3) for t in (20480, 40960)}
    assert study.evaluation.text_file == "ladder"


def test_folders_and_data_are_found_beside_the_file(write, tmp_path):
    for name, tokens in (("one", 5), ("two-tokens7M", None)):
        (tmp_path / name).mkdir()
        if tokens:
            (tmp_path / name / "overtrain.json").write_text(f'{{"tokens": {tokens}}}')
    (tmp_path / "rows.jsonl").write_text("{}")
    study = load_study(
        write(
            "name: l\ncheckpoints: [{folders: [one, two-tokens7M]}]\ntasks: x\n"
            "modifications: {sft: {finetune: {data: rows.jsonl, learning_rate: 1}}}\n"
        )
    )
    assert [p.tokens for p in study.points] == [5, 7_000_000]
    assert study.points[0].repo == str(tmp_path / "one")
    assert study.variants[0].grid[0][0].data == str(tmp_path / "rows.jsonl")


def test_a_checkpoint_tuned_elsewhere_brings_its_base(write):
    cells = expand(
        load_study(
            write(
                GOOD.replace("modifications:", "  - {repo: someone/tuned, base: {repo: allenai/OLMo-1B-hf, revision: "
                "step738000-tokens3094B}, variant: theirs, seed: 4, fields: {learning_rate: 1e-5}}\nmodifications:")
            )
        )
    )  # fmt: skip
    (theirs,) = [c for c in cells if c.variant == "theirs"]
    assert len(cells) == 2 * 5 + 1  # its base is there already
    assert theirs.checkpoint == "allenai/OLMo-1B-hf@step738000-tokens3094B"
    assert theirs.point.repo == "someone/tuned"
    assert theirs.point.tokens == 3_094_000_000_000
    assert theirs.columns() == {"learning_rate": 1e-5}
    assert (theirs.modification, theirs.seed) == ("tuned", 4)


def test_only_names_variants_checkpoints_and_patterns(write):
    cells = expand(load_study(write(GOOD)))
    assert len(select_cells(cells, ["base"])) == 2
    assert len(select_cells(cells, ["allenai/OLMo-1B-hf@step10000-tokens41B"])) == 5
    assert len(select_cells(cells, ["gamma=0.1 seed=?"])) == 4
    assert len(select_cells(cells, ["base", "noise"])) == 10
    with pytest.raises(ConfigError, match="did you mean 'noise'"):
        select_cells(cells, ["noize"])


def test_presets_are_found_by_name_and_missing_ones_are_told(tmp_path):
    assert find_preset("micro/demo").name == "demo.yaml"
    assert "micro/demo" in preset_names()
    assert not any("_parts" in name for name in preset_names())
    with pytest.raises(ConfigError, match="did you mean 'micro/demo'"):
        find_preset("micro/demoo")


def test_a_primary_comparison_may_name_a_point_of_the_grid(write):
    primary = "primary: {task: overtrain_c4, metric: nll_per_token, variant: noise, at: AT, compare: [41e9, 3094e9]}\n"
    assert load_study(write(GOOD + primary.replace("AT", "0.05"))).primary.at == 0.05
    with pytest.raises(ConfigError, match=r"primary.at=0.25: no point of noise's grid \(there: 0.05, 0.1\)"):
        load_study(write(GOOD + primary.replace("AT", "0.25")))
