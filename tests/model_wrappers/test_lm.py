"""The models in process: what is evaluated, what is recorded, what is refused."""

from __future__ import annotations

import json

import lm_eval
import pytest
import torch
from commands import INCLUDE
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from model_wrappers.compat import instance, rolling_answer, rolling_request, rolling_value
from model_wrappers.errors import CheckpointError, ConfigError, DataError, OvertrainError
from model_wrappers.lm import FineTunedLM, PerturbedLM, RecipeLM

pytestmark = pytest.mark.spine

PAIRS = [("Question: 2 + 2?\nAnswer:", " 4"), ("The quick brown", " fox jumps"), ("", "Alone")]


@pytest.fixture
def sums(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(6) for b in range(6)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def tuning(make_model, sums, **changed):
    return {"pretrained": str(make_model("olmo")), "data": str(sums), "learning_rate": 1e-2, "max_steps": 2} | {
        "train_batch_size": 4,
        "device": "cpu",
    } | changed  # fmt: skip


def requests(kind="loglikelihood", pairs=PAIRS):
    return [
        instance(kind, pair if kind == "loglikelihood" else rolling_request(pair[1] * 5), task="t", document=i, index=i)
        for i, pair in enumerate(pairs)
    ]


def scores(lm):
    return lm.loglikelihood(requests(), disable_tqdm=True)


def assert_near(found, expected):
    """The bar for scoring by prefixes in fp32: 1e-4 nats per request, and the same greedy continuations."""
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


@pytest.mark.parametrize("architecture", ["olmo", "olmo2", "llama", "gpt_neox"])
def test_without_a_change_the_scores_are_the_hosts(make_model, architecture):
    folder = str(make_model(architecture))
    expected = scores(HFLM(pretrained=folder, device="cpu"))
    assert scores(PerturbedLM(pretrained=folder, gamma=0, device="cpu", scoring="plain")) == expected
    assert_near(scores(PerturbedLM(pretrained=folder, gamma=0, device="cpu")), expected)


@pytest.mark.parametrize("architecture", ["olmo", "olmo2", "llama", "gpt_neox"])
def test_each_architecture_is_tuned_by_full_and_by_lora(make_model, sums, architecture):
    base = scores(HFLM(pretrained=str(make_model(architecture)), device="cpu"))
    arguments = tuning(make_model, sums) | {"pretrained": str(make_model(architecture))}
    full, lora = scores(FineTunedLM(**arguments)), scores(FineTunedLM(**arguments, lora_rank=2))
    assert len({tuple(base), tuple(full), tuple(lora)}) == 3


def test_a_score_right_after_training_equals_one_from_the_cache_and_nothing_trains_twice(
    make_model, sums, monkeypatch, own_cache
):
    first = FineTunedLM(**tuning(make_model, sums))
    after_training = scores(first)
    from model_wrappers.modifications.finetune import FineTune

    monkeypatch.setattr(FineTune, "apply", lambda *_, **__: pytest.fail("trained again"))
    again = FineTunedLM(**tuning(make_model, sums, batch_size=2))
    assert scores(again) == after_training
    assert again.get_model_info()["overtrain"]["modifications"] == first.get_model_info()["overtrain"]["modifications"]
    (entry,) = [p for p in (own_cache / "weights").iterdir() if not p.name.startswith(".")]
    assert_near(scores(HFLM(pretrained=str(entry), device="cpu")), after_training)


def test_what_says_where_and_how_fast_is_not_part_of_the_identity(make_model, sums, tmp_path):
    def identity(**changed):
        return FineTunedLM(**tuning(make_model, sums, **changed)).weights_id

    copied = tmp_path / "elsewhere.jsonl"
    copied.write_bytes(sums.read_bytes())
    same = identity()
    assert identity(batch_size=2) == identity(micro_batch_size=1) == identity(data=str(copied)) == same
    assert len({same, identity(seed=1), identity(learning_rate=2e-2), identity(max_steps=3)}) == 4


def test_other_rows_are_other_weights(make_model, sums):
    before = FineTunedLM(**tuning(make_model, sums)).weights_id
    sums.write_text(sums.read_text().replace("1 + 1 =", "one + 1 ="))
    assert FineTunedLM(**tuning(make_model, sums)).weights_id != before


def test_tuned_weights_are_evaluated_in_the_checkpoints_own_dtype(make_model, sums, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "bf16"
    AutoModelForCausalLM.from_pretrained(make_model("olmo"), dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(make_model("olmo")).save_pretrained(folder)
    lm = FineTunedLM(**tuning(make_model, sums, pretrained=str(folder)))
    assert lm.model.dtype == torch.bfloat16
    assert FineTunedLM(**tuning(make_model, sums, pretrained=str(folder), dtype="float32")).model.dtype == torch.float32


def test_order_in_a_recipe_counts(make_model, sums, tmp_path):
    steps = [
        f"- finetune: {{data: {sums}, learning_rate: 1e-2, max_steps: 2, train_batch_size: 4}}\n",
        "- gaussian: {gamma: 0.5, init_std: '0.02'}\n",
    ]
    made = []
    for name, order in (("a", steps), ("b", steps[::-1])):
        recipe = tmp_path / name
        recipe.write_text("".join(order))
        made.append(RecipeLM(pretrained=str(make_model("olmo")), recipe=str(recipe), device="cpu"))
    assert scores(made[0]) != scores(made[1])
    assert made[0].weights_id != made[1].weights_id


def test_rolling_log_likelihoods_count_their_tokens_and_equal_the_hosts(make_model):
    folder = str(make_model("olmo"))
    ours = PerturbedLM(pretrained=folder, gamma=0, device="cpu")
    answers = ours.loglikelihood_rolling(requests("loglikelihood_rolling"), disable_tqdm=True)
    values = [rolling_value(answer) for answer in answers]
    theirs = HFLM(pretrained=folder, device="cpu").loglikelihood_rolling(
        requests("loglikelihood_rolling"), disable_tqdm=True
    )
    assert values == pytest.approx([rolling_value(answer) for answer in theirs], abs=1e-4)
    assert [rolling_answer(value) for value in values] == answers
    plain = PerturbedLM(pretrained=folder, gamma=0, device="cpu", scoring="plain")
    assert plain.loglikelihood_rolling(requests("loglikelihood_rolling"), disable_tqdm=True) == theirs
    assert [v.tokens for v in values] == [len(ours.tokenizer(p[1] * 5).input_ids) for p in PAIRS]


def test_a_continuation_longer_than_the_context_is_named(make_model):
    lm = PerturbedLM(pretrained=str(make_model("olmo", context=32)), gamma=0, device="cpu")
    with pytest.raises(DataError, match=r"continuation of \d+ tokens .* context of 32 tokens"):
        lm.loglikelihood(requests(pairs=[("Why?", " because" * 40)]), disable_tqdm=True)


def test_use_cache_never_returns_another_models_scores(make_model, tmp_path):
    """gamma 0, then gamma 3, then the host itself, all on one cache file: three different answers, and each repeatable."""
    folder = str(make_model("olmo"))
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "The quick brown fox jumps over the lazy dog."}\n' * 2)

    def bits(model, **arguments):
        manager = TaskManager(include_defaults=False, include_path=INCLUDE, metadata={"text_file": str(text)})
        found = lm_eval.simple_evaluate(
            model=model,
            model_args={"pretrained": folder, **arguments},
            tasks=["overtrain_text"],
            device="cpu",
            use_cache=str(tmp_path / "cache" / "answers"),
            task_manager=manager,
        )
        return found["results"]["overtrain_text"]["bits_per_byte,none"]

    quiet, loud = bits("overtrain_perturb", gamma=0), bits("overtrain_perturb", gamma=3, init_std="0.02")
    assert quiet != loud
    assert bits("hf") == pytest.approx(quiet)
    assert bits("overtrain_perturb", gamma=3, init_std="0.02") == loud
    assert bits("overtrain_perturb", gamma=0) == quiet


def test_simple_evaluate_by_name_records_the_cell(make_model, tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "One text."}\n{"text": "Another text."}\n')

    def cell(**changed):
        manager = TaskManager(include_defaults=False, include_path=INCLUDE, metadata={"text_file": str(text)})
        arguments = {"pretrained": str(make_model("olmo")), "gamma": 0.1, "init_std": "0.02"} | changed
        found = lm_eval.simple_evaluate(
            model="overtrain_perturb",
            model_args=arguments,
            tasks=["overtrain_text"],
            device="cpu",
            task_manager=manager,
            limit=changed.get("limit"),
        )
        return found["config"]["overtrain"]

    first = cell()
    assert cell(batch_size=2)["cell_id"] == first["cell_id"]
    assert cell(seed=1)["cell_id"] != first["cell_id"]
    text.write_text('{"text": "One text."}\n{"text": "Another Text."}\n')
    changed = cell()
    assert changed["weights_id"] == first["weights_id"]
    assert changed["cell_id"] != first["cell_id"]


@pytest.mark.parametrize(
    ("model", "arguments", "error", "said"),
    [
        (PerturbedLM, {"gama": 1}, ConfigError, "unknown argument 'gama'; did you mean 'gamma'"),
        (PerturbedLM, {}, ConfigError, "needs gamma"),
        (PerturbedLM, {"gamma": "loud"}, ConfigError, "gamma='loud': must be a finite number"),
        (PerturbedLM, {"gamma": -0.1}, ConfigError, "gamma=-0.1: must be 0 or more"),
        (PerturbedLM, {"gamma": "nan"}, ConfigError, "gamma='nan'"),
        (PerturbedLM, {"gamma": 1, "kind": "gausian"}, ConfigError, "did you mean 'gaussian'"),
        (PerturbedLM, {"gamma": 1, "init_std": "auto"}, ConfigError, "init_std"),
        (PerturbedLM, {"gamma": 1, "init_std": "0.02", "tokens": -3}, OvertrainError, "tokens"),
        (FineTunedLM, {"data": "alpaca"}, ConfigError, "needs learning_rate"),
        (FineTunedLM, {"data": "alpaca", "learning_rate": 0}, ConfigError, "learning_rate=0.0: must be above 0"),
        (FineTunedLM, {"data": "alpacca", "learning_rate": 1}, OvertrainError, "did you mean 'alpaca'"),
        (FineTunedLM, {"data": "alpaca", "learning_rate": 1, "lr_schedule": "cosine"}, ConfigError, "lr_scheduler"),
        (FineTunedLM, {"data": "alpaca", "learning_rate": 1, "lr_scheduler": "step"}, ConfigError, "one of cosine"),
        (
            FineTunedLM,
            {"data": "x", "learning_rate": 1, "warmup_steps": 1, "warmup_ratio": 0.1},
            ConfigError,
            "only one",
        ),
        (FineTunedLM, {"data": "x", "learning_rate": 1, "lora_rank": 0}, ConfigError, "lora_rank=0"),
        (RecipeLM, {}, ConfigError, "recipe=FILE"),
        (RecipeLM, {"recipe": "no/such.yaml"}, ConfigError, "no such file"),
        (PerturbedLM, {"pretrained": "./no/such/folder", "gamma": 1}, CheckpointError, "no/such/folder"),
        (PerturbedLM, {"pretrained": None, "gamma": 1}, ConfigError, "pretrained=None"),
    ],
)
def test_bad_arguments_raise_our_error_with_the_value_and_the_remedy(make_model, model, arguments, error, said):
    with pytest.raises(error, match=said.replace("(", r"\(")):
        model(**({"pretrained": str(make_model("olmo")), "device": "cpu"} | arguments))


def test_a_genuine_argument_of_from_pretrained_goes_through(make_model):
    lm = PerturbedLM(pretrained=str(make_model("olmo")), gamma=0, attn_implementation="eager", device="cpu")
    assert lm.model.config._attn_implementation == "eager"


def test_a_revision_that_looks_like_a_number_stays_a_name(make_model):
    lm = PerturbedLM(pretrained=str(make_model("olmo")), revision=1000, gamma=0, device="cpu")
    assert lm.checkpoint.revision == "1000"


def test_a_misspelt_recipe_is_refused(make_model, tmp_path):
    recipe = tmp_path / "r.yaml"
    for text, said in [
        ("- gausian: {gamma: 1}", "did you mean 'gaussian'"),
        ("gamma: 1", "needs .modifications."),
        ("- [", "YAML"),
    ]:
        recipe.write_text(text)
        with pytest.raises(ConfigError, match=said):
            RecipeLM(pretrained=str(make_model("olmo")), recipe=str(recipe), device="cpu")


def test_a_tokenizer_without_an_end_token_is_refused_before_training(make_model, sums, tmp_path):
    import shutil

    folder = tmp_path / "no-eos"
    shutil.copytree(make_model("olmo"), folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="end-of-sequence"):
        FineTunedLM(**tuning(make_model, sums, pretrained=str(folder)))
