"""What `overtrain validate` finds in the files that a study's modifications name."""

from __future__ import annotations

import pytest
from overtrain_tiny import STUDY, write_study

from model_wrappers.errors import ConfigError
from overtrain.plan.estimate import validate


def test_training_data_that_are_not_there_are_named_before_anything_runs(make_model, tmp_path):
    study = write_study(tmp_path, make_model("olmo", seed=0), make_model("olmo", seed=1))
    assert validate(study).unknown == []
    (tmp_path / "sums.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"data='sums.jsonl': no such file") as caught:
        validate(study)
    assert str(caught.value).count("no such file") == 1, "one message for all cells"


def test_a_hub_data_set_of_unknown_size_is_said_not_to_be_counted(make_model, tmp_path):
    text = STUDY.replace("data: sums.jsonl", "data: org/rows").replace("max_steps: 2", "epochs: 1")
    study = write_study(tmp_path, make_model("olmo", seed=0), make_model("olmo", seed=1), text)
    assert validate(study).unknown == ["training on org/rows"]
