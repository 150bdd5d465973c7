"""Every file under configs/: it loads, expands, says how to run it and what it costs; offline."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from overtrain.plan.costs import parameters
from overtrain.plan.estimate import validate
from overtrain.plan.expand import expand
from overtrain.plan.load import load_study
from overtrain.pretrain.arithmetic import write_rows
from overtrain.study.presets import find_preset, preset_names

CONFIGS = Path(__file__).parents[3] / "configs"
PAPER = [
    f"paper/{model}_{data}"
    for model in ("olmo_1b", "olmo_2_7b", "amber")
    for data in ("anthropic_hh", "alpaca", "tulu")
]
RATES = (1e-6, 5e-6, 1e-5, 5e-5, 8e-5, 1e-4, 2e-4)


def test_presets_are_the_files_of_the_repository():
    """What a shell's ``configs/*/*.yaml`` names are whole studies; what they include lies a folder deeper."""
    files = {str(f.relative_to(CONFIGS).with_suffix("")) for f in CONFIGS.glob("*/*.yaml")}
    assert not any(name.startswith("alpaca_eval") for name in preset_names())
    assert files == set(preset_names())
    assert files >= {*PAPER, "micro/demo"}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_loads_expands_and_opens_with_its_command_and_cost(name):
    study = load_study(name)
    cells = expand(study)
    assert len([c for c in cells if c.variant == "base"]) == len(study.points)
    assert study.primary is not None
    assert all(parameters(p) for p in study.points)
    command, cost, *_ = find_preset(name).read_text().splitlines()
    assert command.startswith(f"# overtrain sweep {name} ")
    assert cost == f"# Cost: about {validate(study).cost} (overtrain validate {name})"


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_presets_are_tables_1_and_2(name):
    study = load_study(name)
    assert len(study.points) == 6
    (variant,) = study.variants
    assert variant.axes == {"learning_rate": RATES}
    (tuning,) = variant.grid[0]
    assert tuning.data == name.partition("/")[2].split("_", 1 if "amber" in name else 2 if "1b" in name else 3)[-1]
    fixed = (tuning.train_batch_size, tuning.lr_scheduler, tuning.warmup_steps, tuning.weight_decay)
    assert fixed == (256, "cosine", 20, 0)
    assert study.tasks == ("overtrain_ten", "overtrain_c4", "overtrain_alpaca_eval")
    assert (study.select.metric, study.select.how) == ("validation_loss", "metric")
    (reference,) = [cell for cell in expand(study) if not cell.curve]
    assert (reference.point.tokens, reference.modifications[0].learning_rate) == (study.points[-1].tokens, 5e-5)
    assert reference.seed not in variant.seeds


def test_table_1_has_eighteen_revisions():
    points = {p.label for name in PAPER for p in load_study(name).points}
    assert len(points) == 18
    assert "allenai/OLMo-2-1124-7B@stage1-step928646-tokens3896B" in points


def test_learning_rates_at_the_checkpoints_agree_with_what_is_known():
    """The cosine schedule of OLMo-1B has 2.3e-4 at 1.5T, 8.9e-5 at 2.35T and 4e-5 at 3.09T."""
    rates = {p.tokens: p.learning_rate for p in load_study("paper/olmo_1b_alpaca").points}
    assert rates[1_501_000_000_000] == pytest.approx(2.3e-4, rel=0.01)
    assert rates[2_353_000_000_000] == pytest.approx(8.9e-5, rel=0.01)
    assert rates[3_094_000_000_000] == pytest.approx(4e-5, rel=0.01)


def test_micro_ladders_have_three_initialisations_and_are_shared():
    names = [n for n in preset_names() if n.startswith("micro/") and n not in {"micro/demo", "micro/quick"}]
    assert all({p.run for p in load_study(n).points} == {"seed-0", "seed-1", "seed-2"} for n in names)
    assert len({tuple(str(p.spec()) for p in load_study(n).points) for n in names}) == 1
    shared = {str(p.spec()) for p in load_study("micro/noise").points}
    assert {str(p.spec()) for p in load_study("micro/demo").points} < shared


def test_the_rows_of_the_arithmetic_presets_are_those_of_the_demo():
    assert (CONFIGS / "micro" / "arithmetic.jsonl").read_text() == write_rows(2048)


def test_the_sbatch_file_is_a_shell_script_that_starts_a_sweep():
    script = CONFIGS / "cluster" / "slurm.sbatch"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert re.search(r"overtrain sweep .* --ray", script.read_text())
