"""The contract of modifications over the built-in ones: a new file fails here until its values are given."""

from __future__ import annotations

import inspect
import json

import pytest

from model_wrappers.errors import ConfigError
from model_wrappers.modifications.base import Cost
from model_wrappers.modifications.registry import registry
from overtrain import testing


def _tuning(folder):
    rows = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(4) for b in range(4)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return {"data": str(folder / "sums.jsonl"), "learning_rate": 1e-2, "max_steps": 2, "train_batch_size": 4}


VALUES = {
    "finetune": _tuning,
    "lora": lambda folder: _tuning(folder) | {"lora_rank": 2},
    "gaussian": lambda folder: {"gamma": 0.5, "init_std": "0.02"},
}
for _name, _values in VALUES.items():
    globals()[f"Test{_name.title()}"] = type(
        f"Test{_name.title()}",
        (testing.ModificationContract,),
        {"modification": registry()[_name], "values": lambda self, folder, values=_values: values(folder)},
    )


class TestFinetuneInOneBatch(testing.ModificationContract):
    """Every step takes all rows and the model drops nothing: then no seed changes a bit of the weights."""

    modification = registry()["finetune"]

    def values(self, folder):
        return _tuning(folder) | {"train_batch_size": 16}


class TestLoraInOneBatch(testing.ModificationContract):
    """The adapters start at random numbers all the same."""

    modification = registry()["lora"]

    def values(self, folder):
        return _tuning(folder) | {"train_batch_size": 16, "lora_rank": 2}


def test_every_built_in_modification_has_values_here():
    ours = {name for name, cls in registry().items() if cls.__module__.startswith("model_wrappers.")}
    assert set(VALUES) == ours


@pytest.mark.parametrize("name", list(VALUES))
def test_unknown_field_names_the_closest(name, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        registry()[name].parse(VALUES[name](tmp_path) | {"sead": 1})


@pytest.mark.parametrize("bad", ["one", 1.5, -1, True, 2**32])
@pytest.mark.parametrize("name", list(VALUES))
def test_bad_seed_is_refused_with_its_value(name, bad, tmp_path):
    with pytest.raises(ConfigError, match=f"seed={bad!r}|seed={bad}"):
        registry()[name].parse(VALUES[name](tmp_path) | {"seed": bad})


def _only_the_seed(self, *_, **__):
    return {"seed": self.seed}


BROKEN = {
    "test_lm_eval_and_studies_find_it": {},
    "test_a_seed_gives_one_outcome": {"random": False},
    "test_neutral_values_are_the_identity": {"neutral": {"gamma": 0.1}},
    "test_source_fields_and_category_are_documented": {"category": "Noise!"},
    "test_axes_are_fields_of_the_right_kind": {"axes": registry()["finetune"].axes[:1]},
    "test_files_are_fields_of_text": {"files": classmethod(lambda cls: ("gamma",))},
    "test_the_cost_is_positive_or_says_what_is_unknown": {"cost": lambda self, checkpoint: Cost(tokens=-1.0)},
    "test_the_seed_is_in_the_identity_where_it_matters": {"random": False, "identity": _only_the_seed},
}


@pytest.mark.parametrize("test", list(BROKEN))
def test_the_contract_notices_a_class_that_breaks_it(test, tmp_path):
    cls = type("Broken", (registry()["gaussian"],), BROKEN[test] | {"__doc__": "Broken."})
    contract = testing.ModificationContract()
    contract.modification, contract.values = cls, VALUES["gaussian"]
    check = getattr(contract, test)
    with pytest.raises(AssertionError):
        check(**dict.fromkeys(inspect.signature(check).parameters, tmp_path))
