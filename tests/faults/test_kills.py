"""Processes killed with -9 at random moments: what counts is whole, and the outcome is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

import pytest

from model_wrappers.cache import WeightsCache

FILL = """
import sys, itertools
from pathlib import Path
from model_wrappers.cache import WeightsCache
cache = WeightsCache(Path(sys.argv[1]))
def build(folder, work):
    for part in range(4):
        (folder / f"part-{part}").write_bytes(bytes([part]) * 200_000)
    return {"whole": True}
print("ready", flush=True)
for number in itertools.count(int(sys.argv[2])):
    cache.get_or_create(f"{number:064d}", build)
"""

TRAIN = """
import hashlib, json, sys
from pathlib import Path
import torch
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.materialise import tuned_weights
from model_wrappers.modifications.finetune import FineTune
from transformers import AutoTokenizer
folder, data = sys.argv[1:]
tuning = FineTune(data=data, learning_rate=1e-3, max_steps=60, train_batch_size=4, resume_every=2)
tokenizer = AutoTokenizer.from_pretrained(folder)
entry = tuned_weights(Checkpoint(repo=folder), (tuning,), tokenizer, device=torch.device("cpu"))
step = entry.meta["steps"][0]
log = [{k: row[k] for k in ("step", "loss", "grad_norm", "learning_rate")} for row in step["record"]["training_log"]]
weights = hashlib.sha256((entry.path / "model.safetensors").read_bytes()).hexdigest()
print(json.dumps({"weights": weights, "metrics": step["metrics"], "log": log}))
"""


def start(code, *arguments, **env):
    whole = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"} | env
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


@pytest.mark.faults("kill -9 while the weights cache is written")
def test_a_cache_holds_whole_entries_only_whenever_its_writer_is_killed(tmp_path, record_property):
    chance, kills, there = random.Random(0), 10, 0
    for kill in range(kills):
        writer = start(FILL, tmp_path, 0)
        assert writer.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.02, 0.3))
        writer.kill()
        writer.communicate()
        entries = WeightsCache(tmp_path).entries()
        assert len(entries) >= there, f"kill {kill} lost an entry"
        assert all(entry.damage() == "" and len(list(entry.path.glob("part-*"))) == 4 for entry in entries)
        there = len(entries)
    assert there > 0
    record_property("tried", kills)


@pytest.mark.slow
@pytest.mark.faults("kill -9 while a training with resume_every runs")
def test_a_training_killed_at_random_ends_in_the_same_weights_and_the_same_record(
    make_model, tmp_path, record_property
):
    rows = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(8) for b in range(8)]
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    quiet = start(TRAIN, make_model("olmo"), data, OVERTRAIN_CACHE=str(tmp_path / "a"))
    expected, errors = quiet.communicate(timeout=200)
    assert quiet.returncode == 0, errors
    chance, kills = random.Random(1), 0
    for _ in range(4):
        trained = start(TRAIN, make_model("olmo"), data, OVERTRAIN_CACHE=str(tmp_path / "b"))
        before = len(list((tmp_path / "b").rglob("checkpoint-*")))
        while trained.poll() is None and len(list((tmp_path / "b").rglob("checkpoint-*"))) <= before % 2:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.4))
        trained.kill()
        kills += trained.wait() == -9
        trained.communicate()
    found, errors = start(TRAIN, make_model("olmo"), data, OVERTRAIN_CACHE=str(tmp_path / "b")).communicate(timeout=200)
    assert json.loads(found.splitlines()[-1]) == json.loads(expected.splitlines()[-1]), errors
    assert kills >= 2
    record_property("tried", kills)


@pytest.mark.faults("disk full: a small file system")
def test_a_file_system_that_is_full_costs_nothing_that_is_finished(tmp_path):
    """A real one of 2 MB, where one can be mounted."""
    from model_wrappers.errors import StoreError

    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        cache = WeightsCache(mount)

        def build(folder, work):
            (folder / "weights").write_bytes(os.urandom(900_000))
            return {}

        made = []
        with pytest.raises(StoreError, match="free space there or set OVERTRAIN_CACHE"):
            made += [cache.get_or_create(f"{number:064d}", build) for number in range(1)]
            made += [cache.get_or_create(f"{number:064d}", build) for number in range(1, 4)]
        assert [entry.damage() for entry in made] == [""]
        assert all(entry.damage() == "" for entry in cache.entries())
        cache.prune(max_bytes=0)
        assert cache.get_or_create("f" * 64, build).damage() == ""
    finally:
        subprocess.run(["umount", mount], check=False)
