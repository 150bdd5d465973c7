"""What every modification must keep, checked over the registry: a new file is tested by being there."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from model_wrappers.arguments import CHECKPOINT_ARGUMENTS, FROM_PRETRAINED, host_arguments
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.errors import ConfigError
from model_wrappers.modifications.registry import registry

NAMES = list(registry())


@pytest.fixture
def fields(tmp_path):
    """Field values for every modification, chosen so that each of them changes the weights."""
    rows = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(4) for b in range(4)]
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    tuning = {"data": str(data), "learning_rate": 1e-2, "max_steps": 2, "train_batch_size": 4}
    return {
        "finetune": tuning,
        "lora": tuning | {"lora_rank": 2},
        "gaussian": {"gamma": 0.5, "init_std": "0.02"},
    }


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def weights(model):
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.fixture
def run(fields, make_model, tokenizer):
    folder = make_model("olmo")

    def run(name, **changed):
        modification = registry()[name].parse(fields[name] | changed)
        model = load(folder)
        return modification.apply(model, tokenizer, Checkpoint(repo=folder))

    run.before = weights(load(folder))
    return run


def test_every_modification_has_values_here(fields):
    assert set(NAMES) == set(fields)


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_per_seed_and_different_between_seeds(run, name):
    first, again, other = (weights(run(name, seed=s).model) for s in (1, 1, 2))
    assert equal(first, again)
    assert not equal(first, run.before)
    assert not equal(first, other)


@pytest.mark.parametrize("name", NAMES)
def test_neutral_values_are_the_identity(run, name):
    neutral = registry()[name].neutral
    assert neutral is not None
    modified = run(name, **neutral)
    assert equal(weights(modified.model), run.before)
    assert modified.metrics["distance"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_shapes_dtypes_mode_and_device_are_kept(run, name):
    modified = run(name)
    after = weights(modified.model)
    assert {n: (p.shape, p.dtype, p.device) for n, p in after.items()} == {
        n: (p.shape, p.dtype, p.device) for n, p in run.before.items()
    }
    assert not modified.model.training
    assert type(modified.model).__name__ == "OlmoForCausalLM"


@pytest.mark.parametrize("name", NAMES)
def test_global_generators_are_untouched(run, name):
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    run(name)
    drawn = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())


@pytest.mark.parametrize("name", NAMES)
def test_the_distance_is_that_of_the_weights(run, name):
    modified = run(name)
    after = weights(modified.model)
    exact = sum((after[n].double() - p.double()).square().sum().item() for n, p in run.before.items()) ** 0.5
    assert modified.metrics["distance"] == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_names_do_not_collide_with_the_host(name):
    from lm_eval.models.huggingface import HFLM

    taken = host_arguments(HFLM) | FROM_PRETRAINED | set(CHECKPOINT_ARGUMENTS) | {"kind", "recipe"}
    assert not taken & set(registry()[name].fields())


@pytest.mark.parametrize("name", NAMES)
def test_source_is_cited_and_fields_are_described(name):
    cls = registry()[name]
    assert "Section" in cls.source or "Appendix" in cls.source or cls.source.startswith("https://")
    assert all(cls.fields().values())


@pytest.mark.parametrize("name", NAMES)
def test_fields_survive_json_and_strings(fields, name):
    """Command lines give text: parsing the text of every field must give the same modification."""
    given = registry()[name].parse(fields[name])
    text = {
        f.name: "+".join(v) if isinstance(v := getattr(given, f.name), tuple) else str(v)
        for f in dataclasses.fields(given)
    }
    assert registry()[name].parse(text) == given
    assert json.loads(json.dumps(given.describe()))["modification"] == name


@pytest.mark.parametrize("name", NAMES)
def test_unknown_field_names_the_closest(fields, name):
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        registry()[name].parse(fields[name] | {"sead": 1})


@pytest.mark.parametrize("bad", ["one", 1.5, -1, True, 2**32])
@pytest.mark.parametrize("name", NAMES)
def test_bad_seed_is_refused_with_its_value(fields, name, bad):
    with pytest.raises(ConfigError, match=f"seed={bad!r}|seed={bad}"):
        registry()[name].parse(fields[name] | {"seed": bad})
