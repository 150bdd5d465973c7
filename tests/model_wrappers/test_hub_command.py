"""A stock lm_eval command whose checkpoint lies on a hub, served on the loopback interface."""

from __future__ import annotations

import pytest
from commands import INCLUDE, assert_one_message, model_args, results, run
from loopback_hub import LoopbackHub, read_folder

pytestmark = pytest.mark.slow  # every test is a command that imports everything


@pytest.fixture
def hub(make_model):
    files = read_folder(make_model("olmo"))
    other = read_folder(make_model("olmo", seed=1))
    with LoopbackHub() as server:
        server.add(
            "org/ladder",
            {
                "main": files,
                "step1000-tokens4B": other,
                "step2000-tokens8B": files,
                "no-weights": {k: v for k, v in files.items() if not k.endswith(".safetensors")},
            },
        )
        yield server


@pytest.fixture
def evaluate(hub, tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "A text."}\n{"text": "Another."}\n')

    def evaluate(**args):
        return run(
            "lm_eval", "--model", "overtrain_perturb", "--model_args",
            model_args(**({"pretrained": "org/ladder", "gamma": 0} | args)), "--tasks", "overtrain_text",
            "--include_path", INCLUDE, "--output_path", tmp_path / "out",
            **(hub.env(tmp_path / "hf") | {"OVERTRAIN_TEXT": str(text)}),
        )  # fmt: skip

    return evaluate


def test_a_revision_is_recorded_and_one_with_mains_weights_is_warned_of(evaluate, tmp_path):
    done = evaluate(revision="step2000-tokens8B")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "revision step2000-tokens8B holds the same weights as revision main" in done.stderr
    checkpoint = results(tmp_path / "out")["config"]["overtrain"]["checkpoint"]
    assert checkpoint["tokens"] == 8_000_000_000
    assert len(checkpoint["sha"]) == 40


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"revision": "step1000-tokens5B"}, ["step1000-tokens5B", "step1000-tokens4B"]),
        ({"revision": "no-weights"}, ["no-weights", "safetensors"]),
    ],
)
def test_a_checkpoint_that_cannot_be_had_is_one_message(evaluate, args, words):
    assert_one_message(evaluate(**args), *words)
