"""What the cells of a study share in one process: base weights, tokenizer, plan and comparison."""

from __future__ import annotations

import json

import pytest
import torch
from overtrain_tiny import write_study
from safetensors.torch import load_file

from model_wrappers.modifications.gaussian import Gaussian
from model_wrappers.scoring import engine, proofs
from overtrain.plan import tasks
from overtrain.results.store import Store
from overtrain.run.lm import CellLM, HeldWeights
from overtrain.run.sweep import run

pytestmark = pytest.mark.spine

COPIES = [(gamma, seed) for gamma in (0.1, 1.0) for seed in (0, 1)]
STUDY = """\
name: tiny
checkpoints: [{{folders: [{{path: {one}, tokens: 1000}}, {{path: {two}, tokens: 2000}}]}}]
modifications: {{noise: {{gaussian: {{gamma: [0.1, 1.0], init_std: 0.02}}}}}}
seeds: [0, 1]
tasks: [overtrain_arc_easy, overtrain_sciq]
evaluation: {{num_fewshot: 0, batch_size: 2, device: cpu}}
"""


def cell(folder, held, *modifications, **more):
    return CellLM(str(folder), held=held, modifications=modifications, device="cpu", **more)


def noise(gamma, seed):
    return Gaussian(gamma=gamma, seed=seed, init_std="0.02")


def bits(state):
    """Weights as integers: equal means equal to the bit, signed zeros and NaN included."""
    integers = {2: torch.int16, 4: torch.int32}
    return {name: value.detach().contiguous().view(integers[value.element_size()]) for name, value in state.items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
def test_copies_of_held_weights_are_those_of_a_fresh_model_to_the_bit(make_model, dtype, tied):
    """Also where an earlier copy left NaN, infinities and a negative zero."""
    folder, held = make_model("olmo", tied=tied), HeldWeights()
    for gamma, seed in COPIES:
        model = cell(folder, held, noise(gamma, seed), dtype=dtype).model
        fresh = cell(folder, None, noise(gamma, seed), dtype=dtype).model
        assert model is not fresh
        assert same(bits(model.state_dict()), bits(fresh.state_dict()))
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), [float("nan"), float("inf"), -0.0] * 99, strict=False):
                parameter.fill_(value)
    again = cell(folder, held, dtype=dtype).model
    assert same(bits(again.state_dict()), bits(cell(folder, None, dtype=dtype).model.state_dict()))
    if dtype == "float32":
        written = bits(load_file(folder / "model.safetensors"))
        restored = bits(again.state_dict())
        assert written
        assert same(written, {name: restored[name] for name in written})


def test_weights_are_read_once_per_checkpoint_in_a_row(make_model, monkeypatch):
    from lm_eval.models.huggingface import HFLM

    read, real = [], HFLM._create_model
    monkeypatch.setattr(
        HFLM, "_create_model", lambda self, **more: (read.append(more["pretrained"]), real(self, **more))
    )
    one, two, held = make_model("olmo", seed=0), make_model("olmo", seed=1), HeldWeights()
    for folder in (one, one, two, two, one):
        cell(folder, held, noise(0.1, 0))
    assert read == [str(one), str(two), str(one)]


def test_weights_of_another_shape_are_not_restored_into(make_model):
    folder, held = make_model("olmo"), HeldWeights()
    rows = len(cell(folder, held).tokenizer)
    cell(folder, held).model.resize_token_embeddings(rows + 8, mean_resizing=False)
    assert cell(folder, held).model.get_input_embeddings().weight.shape[0] == rows


def test_the_tokenizer_is_loaded_once_per_checkpoint(make_model, monkeypatch):
    from transformers import AutoTokenizer

    loaded, real = [], AutoTokenizer.from_pretrained
    monkeypatch.setattr(
        AutoTokenizer, "from_pretrained", lambda name, **more: (loaded.append(name), real(name, **more))[1]
    )
    one, two, held = make_model("olmo", seed=0), make_model("olmo", seed=1), HeldWeights()
    cells = [cell(folder, held, noise(0.1, 0)) for folder in (one, one, two, two)]
    assert loaded == [str(one), str(two)]
    assert cells[0].tokenizer is cells[1].tokenizer
    assert cells[1].tokenizer is not cells[2].tokenizer
    other = cell(two, held, add_bos_token=True)
    assert len(loaded) == 3
    assert other.tokenizer is not cells[3].tokenizer
    cell(two, None)
    assert len(loaded) == 4


def test_a_study_plans_once_and_compares_once(make_model, tmp_path, monkeypatch):
    """Two checkpoints of one shape and tokenizer, ten cells, two tasks."""
    choices = {"label": ["A", "B"], "text": ["an egg", "the lazy dog"]}
    rows = {
        "arc_easy": [{"question": f"What is {n} + 2?", "choices": choices, "answerKey": "A"} for n in range(3)],
        "sciq": [
            {"question": f"Tip {n}?", "support": "Eat well.", "correct_answer": "sleep"}
            | {f"distractor{k}": f"walk {k}" for k in (1, 2, 3)}
            for n in range(3)
        ],
    }
    for name, given in rows.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    monkeypatch.setenv("OVERTRAIN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(engine, "_plans", type(engine._plans)())
    monkeypatch.setattr(proofs, "_known", {})
    done = {"encode": 0, "compare": 0, "score": 0, "_build_once": 0}

    def counted(where, name):
        real = getattr(where, name)

        def count(*arguments):
            done[name] += 1
            return real(*arguments)

        monkeypatch.setattr(where, name, count)

    counted(engine, "encode")
    counted(engine, "score")
    counted(engine, "compare")
    counted(tasks, "_build_once")
    study = write_study(tmp_path, make_model("olmo", seed=0), make_model("olmo", seed=1), STUDY)
    summary = run(study, tmp_path / "runs")
    cells = 2 * (1 + len(COPIES))
    assert (summary.done, summary.failed) == (cells, [])
    assert done == {
        "encode": 2,  # of the requests, and of those that the comparison makes up
        "compare": 1,
        "score": cells,
        "_build_once": len(rows),
    }
    store = Store(tmp_path / "runs" / "tiny")
    values = [
        [
            row["value"]
            for row in json.loads(store.read(folder.name, "metrics.json"))
            if row["metric"] == "bits_per_byte"
        ]
        for folder in store.root.iterdir()
        if len(folder.name) == 64
    ]
    assert len({tuple(v) for v in values}) == cells  # all of them say something else
