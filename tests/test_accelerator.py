"""The benchmark for an accelerator, as far as a machine without one can try it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch

from benchmarks import accelerator
from benchmarks.accelerator import Part
from benchmarks.finetune_sides import model_flops
from benchmarks.models import model
from model_wrappers.training.tokenise import TokenisedRow


def test_without_an_accelerator_it_is_one_message_and_2(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert accelerator.main(["--out", str(tmp_path / "out.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --device cuda")
    assert "--tiny --device cpu" in line
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_named_with_the_remedy(monkeypatch, capsys):
    monkeypatch.setattr(accelerator, "NEEDED", ("torch", "no_such_package"))
    assert accelerator.main([]) == 2
    assert "not installed: no_such_package" in capsys.readouterr().err


def test_wheels_from_a_folder_are_seen_here_and_by_what_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    wheels, info = tmp_path / "wheels", "from_a_wheel-1.0.dist-info"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "from_a_wheel-1.0-py3-none-any.whl", "w") as made:
        made.writestr("from_a_wheel.py", "VALUE = 7\n")
        made.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: from-a-wheel\nVersion: 1.0\n")
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/RECORD", "")
    accelerator._install(wheels, tmp_path / "site")
    code = "import from_a_wheel; print(from_a_wheel.VALUE)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "7\n"
    with pytest.raises(SystemExit, match=r"no \*\.whl there"):
        accelerator._install(tmp_path / "site", tmp_path / "other")


def test_a_part_that_fails_or_takes_too_long_is_named_and_leaves_nothing_behind(tmp_path, monkeypatch):
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "broken.py").write_text("raise SystemExit('no such kernel')\n")
    (package / "partial.py").write_text(
        "import pathlib, sys, time\npathlib.Path(sys.argv[-1]).write_text('{\"tasks\": 1}')\ntime.sleep(60)\n"
    )
    (package / "slow.py").write_text(
        "import subprocess, sys\n"
        "child = 'import time, pathlib; time.sleep(3); pathlib.Path(\"late\").touch()'\n"
        "subprocess.run([sys.executable, '-c', child])\n"
    )
    monkeypatch.setattr(accelerator, "ROOT", tmp_path)
    monkeypatch.setattr(accelerator, "LEAST_SECONDS", 0.5)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert accelerator._run(Part("a", "broken", (), 60), 60, tmp_path) == ({}, "ended with 1: no such kernel")
    assert accelerator._run(Part("b", "slow", (), 1), 1, tmp_path) == ({}, "stopped after 1 s")
    partial = accelerator._run(Part("d", "partial", (), 5), 5, tmp_path)
    assert partial == ({"tasks": 1, "stopped_after_seconds": 5}, "")
    assert accelerator._run(Part("c", "slow", (), 60), 0.1, tmp_path)[1].startswith("no time left")
    time.sleep(3)
    assert not (tmp_path / "late").exists()


def test_the_operations_of_a_model_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    made, length = model("tiny"), 96
    made.set_attn_implementation("eager")  # its products are counted on every device
    row = TokenisedRow(np.arange(2, 2 + length, dtype=np.int32), np.ones(length, bool))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made(input_ids=torch.from_numpy(row.input_ids).long()[None])
    config = made.config
    unseen = 2 * length**2 * config.hidden_size * config.num_hidden_layers  # torch counts keys after their query too
    assert model_flops(made.config, [row]) / 3 == pytest.approx(counter.get_total_flops() - unseen, rel=1e-6)


def test_the_table_has_each_ratio_and_share_of_peak():
    def spread(value):
        return {"median": value, "low": value, "high": value}

    scoring = {"model": "1b", "dtype": "bfloat16", "ratio_of_totals": 3.5, "geometric_mean": 3.25}
    scoring |= {"largest_difference": 0.5, "tasks": [{"task": "copa", "hf_batch_size": "8", "ours": spread(2.0)}]}
    sides = {
        side: {"model_flops": spread(4e14), "seconds": spread(seconds)}
        for side, seconds in (("ours", 1.0), ("trainer-padded", 2.0))
    }
    tuning = {"model": "1b", "dtype": "bfloat16", "sides": sides, "speed_ratios": {"trainer-padded": 2.0}}
    vllm = {"model": "1b", "dtype": "bfloat16", "seconds": {"copa": 5.0, "piqa": 9.0}}
    found = {"device": "NVIDIA X", "date": "2026-01-01", "versions": {"torch": "2.11"}, "seconds": 300.0}
    found["peak"] = {"flops": 8e14, "matrix_product_flops": 7e14, "known_by": "NVIDIA's data sheet"}
    found["parts"] = {"scoring-1b-bfloat16": scoring, "tuning-1b-bfloat16": tuning, "vllm-1b": vllm}
    told = accelerator.table(found)
    assert "3.5x in total, geometric mean 3.25x" in told
    assert "trainer-padded 2.00x (25.0% of peak); ours 50.0% of peak" in told
    assert "| 1 tasks, 5-shot, 1b shape, bfloat16 | vLLM by lm-eval | 2.50x in total |" in told
    assert "peak 800 TFLOP/s: NVIDIA's data sheet" in told


@pytest.mark.slow
def test_its_whole_path_runs_on_a_cpu(tmp_path):
    out = tmp_path / "accelerator.json"
    command = [sys.executable, "-m", "benchmarks.accelerator", "--tiny", "--device", "cpu", "--out", str(out)]
    done = subprocess.run(command, cwd=accelerator.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert {"scoring-tiny-float32", "tuning-tiny-float32"} <= set(found["parts"])
    assert found["parts"]["scoring-tiny-float32"]["largest_difference"] < 1e-4
    assert {"date", "device", "versions", "peak"} <= set(found)
    assert found["tiny"]
