"""The models generate: as lm-eval's own model would, in the template of their tuning."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from model_wrappers.compat import instance
from model_wrappers.errors import ConfigError
from model_wrappers.generation.prompts import TEMPLATE_KEY, TUNING, Instruction, write
from model_wrappers.generation.stopping import RowStop
from model_wrappers.lm import FineTunedLM, PerturbedLM

pytestmark = pytest.mark.spine

QUESTIONS = [
    "Give three tips.",
    "How do I boil an egg? " * 4,
    "2 + 2?",
    "The quick brown fox " * 9,
    "Why?",
    "Hello, dog.",
]


@pytest.fixture
def sums(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"instruction": f"{a} + {b}", "output": f"{a + b}"} for a in range(6) for b in range(6)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def tuned(make_model, sums, **changed):
    return FineTunedLM(
        **{"pretrained": str(make_model("olmo")), "data": str(sums), "learning_rate": 1e-2, "max_steps": 2}
        | {"train_batch_size": 4, "device": "cpu", "batch_size": 4}
        | changed
    )


def ask(questions=QUESTIONS, template=TUNING, **kwargs):
    own = {} if template is None else {TEMPLATE_KEY: template}
    return [
        instance(
            "generate_until",
            (Instruction(q), {"until": [], "max_gen_toks": 12} | kwargs | own),
            task="t",
            document=i,
        )
        for i, q in enumerate(questions)
    ]


def plain(prompts, **kwargs):
    return [
        instance("generate_until", (p, {"until": [], "max_gen_toks": 12} | kwargs), task="t", document=i)
        for i, p in enumerate(prompts)
    ]


def answers(lm, requests):
    return lm.generate_until(requests, disable_tqdm=True)


def greedy(folder, prompt, tokens):
    """Without lm-eval, without padding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        for _ in range(tokens):
            following = model(ids).logits[0, -1].argmax()
            if following == tokenizer.eos_token_id:
                break
            ids = torch.cat([ids, following.view(1, 1)], 1)
    return tokenizer.decode(ids[0, len(tokenizer(prompt).input_ids) :], skip_special_tokens=True)


@pytest.mark.parametrize("architecture", ["olmo", "llama", "gpt_neox"])
def test_a_batch_answers_as_one_by_one_and_as_a_plain_loop(make_model, architecture):
    folder = str(make_model(architecture))
    expected = [greedy(folder, q, 12) for q in QUESTIONS]
    for batch_size in (1, 4, "auto"):
        lm = PerturbedLM(pretrained=folder, gamma=0, device="cpu", batch_size=batch_size)
        assert answers(lm, ask(template="plain")) == expected


@pytest.mark.parametrize("until", [[], ["e"], ["\n", "the", "o "]])
def test_rows_that_stop_early_say_what_lm_evals_say(make_model, until):
    folder = str(make_model("olmo"))
    ours = PerturbedLM(pretrained=folder, gamma=0, device="cpu", batch_size=3)
    theirs = HFLM(pretrained=folder, device="cpu", batch_size=3)
    prompts = [f"{q} {i}" for i in range(4) for q in QUESTIONS]
    requests = plain(prompts, until=until, max_gen_toks=40)
    assert answers(ours, requests) == answers(theirs, requests)


def test_a_batch_ends_when_each_row_has_come_to_some_end(tokenizer):
    """lm-eval's own criterion waits until all rows have come to the same one."""
    stop = RowStop(tokenizer, ["Human:", "###"], 2)
    rows = [tokenizer.encode("xy Human: a"), tokenizer.encode("xy ### ab c")]
    size = max(map(len, rows)) + 2
    ids = torch.tensor([[1, 1, *row, *[1] * (size - 2 - len(row))] for row in rows])
    seen = [stop(ids[:, :n], None).tolist() for n in range(3, size + 1)]
    assert seen[0] == [False, False]
    assert seen[-1] == [True, True]
    assert all(now >= before for a, b in itertools.pairwise(seen) for before, now in zip(a, b, strict=True))
    first = next(n for n, row in enumerate(seen) if row[0])
    assert "Human:" in tokenizer.decode(rows[0][: first + 1])
    assert "Human:" not in tokenizer.decode(rows[0][:first])


def test_a_stop_text_in_the_prompt_does_not_count(tokenizer):
    ids = torch.tensor([[1, *tokenizer.encode("Human:"), *tokenizer.encode("a")]])
    assert not RowStop(tokenizer, ["Human:"], ids.shape[1] - 1)(ids, None).item()


@pytest.mark.parametrize(("template", "name"), [("auto", "alpaca"), ("hh", "hh"), ("tulu", "tulu")])
def test_a_tuned_model_is_asked_in_the_template_of_its_tuning(make_model, sums, template, name):
    lm = tuned(make_model, sums, template=template)
    expected = answers(lm, plain([write(q, name) for q in QUESTIONS]))
    assert answers(lm, ask()) == expected
    found = lm.get_model_info()["overtrain"]["generation"]
    assert [t["name"] for t in found["templates"]] == [name]
    assert found["backend"] == "hf"
    assert found["prompts"] == 2 * len(QUESTIONS)
    assert found["prompts_truncated"] == found["answers_shortened"] == 0
    (_, made) = sorted(found["arguments"], key=lambda a: len(a["until"]))
    assert made == {"until": {"alpaca": ["### Instruction:"], "hh": ["\n\nHuman:"], "tulu": ["<|user|>"]}[name]} | {
        "do_sample": False,
        "max_gen_toks": 12,
        **({"temperature": 0.0} if "temperature" in made else {}),
    }


def test_the_template_is_still_known_when_the_weights_come_from_the_cache(make_model, sums):
    first = answers(tuned(make_model, sums, template="qa"), ask())
    again = tuned(make_model, sums, template="qa")
    assert answers(again, ask()) == first
    assert again.get_model_info()["overtrain"]["generation"]["templates"][0]["name"] == "qa"


def test_untuned_weights_need_a_template(make_model):
    lm = PerturbedLM(pretrained=str(make_model("olmo")), gamma=0.1, init_std="0.02", device="cpu")
    with pytest.raises(ConfigError, match=r"no template for the instructions"):
        answers(lm, ask())
    assert answers(lm, ask(template="tulu")) == answers(lm, plain([write(q, "tulu") for q in QUESTIONS]))


def test_an_answer_ends_before_the_next_turn_that_the_model_writes(make_model, sums, monkeypatch):
    lm = tuned(make_model, sums, template="hh")
    text = " Yes.\n\nHuman: And now?\n\nAssistant: No."
    ids = lm.tok_encode(text)
    monkeypatch.setattr(
        lm.model, "generate", lambda input_ids, **_: torch.cat([input_ids, torch.tensor([ids] * len(input_ids))], 1)
    )
    assert set(answers(lm, ask())) == {" Yes."}


def test_small_contexts_shorten_answers_and_cut_only_what_leaves_no_room(make_model, caplog):
    folder = str(make_model("olmo", context=40))
    lm = PerturbedLM(pretrained=folder, gamma=0, device="cpu", batch_size=4)
    count = lambda q: len(lm.tok_encode(q))  # noqa: E731
    made = answers(lm, ask(template="plain", max_gen_toks=1024))
    assert len(made) == len(QUESTIONS)
    lengths = [count(q) for q in QUESTIONS]
    assert min(lengths) < 40 < max(lengths)
    for question, tokens, answer in zip(QUESTIONS, lengths, made, strict=True):
        room = (40 - tokens) // 2 * 2
        if room > 0:
            assert answer == greedy(folder, question, room)
    found = lm.get_model_info()["overtrain"]["generation"]
    assert found["answers_shortened"] == len(QUESTIONS)
    assert found["prompts_truncated"] == sum(n > 38 for n in lengths)
    warned = [r for r in caplog.records if "leave no room" in r.message]
    assert len(warned) == 1
    with pytest.raises(AssertionError, match="max tokens to generate"):  # lm-eval's own rule, for other tasks
        answers(lm, plain(["x"], max_gen_toks=1024))


def test_sampling_is_seeded_and_leaves_the_generators_alone(make_model):
    lm = PerturbedLM(pretrained=str(make_model("olmo")), gamma=0, device="cpu", batch_size=4)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    sampled = answers(lm, ask(template="plain", do_sample=True, temperature=1.5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert answers(lm, ask(template="plain", do_sample=True, temperature=1.5)) == sampled
    assert answers(lm, ask(template="plain", temperature=1.5)) == sampled
    other = answers(lm, ask(template="plain", do_sample=True, temperature=1.5, seed=8))
    assert other != sampled
    assert answers(lm, ask(template="plain", do_sample=True, temperature=1.5, seed=8)) == other
    assert answers(lm, ask(template="plain")) not in (sampled, other)
    with pytest.raises(ConfigError, match="temperature"):
        answers(lm, ask(template="plain", do_sample=True))


def test_generating_is_not_mentioned_where_nothing_of_ours_was_generated(make_model):
    lm = PerturbedLM(pretrained=str(make_model("olmo")), gamma=0, device="cpu")
    answers(lm, plain(["x"]))
    assert "generation" not in lm.get_model_info()["overtrain"]


def test_another_template_is_another_result(make_model):
    ids = set()
    for template in ("plain", "tulu", None):
        lm = PerturbedLM(pretrained=str(make_model("olmo")), gamma=0, device="cpu")
        answers(lm, ask(["x"], template=template))
        ids.add(lm.get_model_info()["overtrain"]["cell_id"])
    assert len(ids) == 3


def test_automatic_batches_are_measured_by_what_is_generated(make_model, monkeypatch):
    lm = PerturbedLM(pretrained=str(make_model("olmo")), gamma=0, device="cpu", batch_size="auto", max_batch_size=64)
    sizes = []
    generate = lm.model.generate
    monkeypatch.setattr(
        lm.model, "generate", lambda input_ids, **k: sizes.append(len(input_ids)) or generate(input_ids, **k)
    )
    answers(lm, ask(["Hello."] * 40, template="plain"))
    assert sizes == [16, 16, 8]


def test_a_misspelt_option_gets_the_right_one(make_model):
    with pytest.raises(ConfigError, match="did you mean 'generate_backend'"):
        PerturbedLM(pretrained=str(make_model("olmo")), gamma=0, device="cpu", generate_backnd="vllm")
