"""Templates: the exact text, and that a training prompt is the generation prompt."""

from __future__ import annotations

import copy
import json

import pytest

from model_wrappers.errors import ConfigError
from model_wrappers.training.data import DataSpec, load_examples
from model_wrappers.training.formats import Dialogue, Message, NothingToTrain
from model_wrappers.training.templates import TEMPLATES, render, render_prompt, template_text
from model_wrappers.training.tokenise import tokenise

ONE = (Message("user", "Q {x}?"), Message("assistant", "A {y}."))
TWO = (*ONE, Message("user", "Q2"), Message("assistant", "A2"))
ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pieces(example):
    return [(s.text, s.target) for s in example.segments]


@pytest.fixture
def chat(tokenizer):
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    own.chat_template = CHATML
    return own


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("tulu", [("<|user|>\nQ {x}?\n<|assistant|>\n", False), ("A {y}.", True)]),
        ("hh", [("\n\nHuman: Q {x}?\n\nAssistant:", False), (" A {y}.", True)]),
        ("qa", [("Question: Q {x}?\nAnswer:", False), (" A {y}.", True)]),
        ("plain", [("Q {x}?", False), ("A {y}.", True)]),
        (
            "alpaca",
            [
                (ALPACA + "\n\n### Instruction:\nQ {x}?\n\n### Response:\n", False),
                ("A {y}.", True),
            ],
        ),
    ],
)
def test_one_turn(template, expected):
    example = render(Dialogue(ONE), template)
    assert pieces(example) == expected
    assert example.segments[0].text == render_prompt("Q {x}?", template)


def test_alpaca_with_an_input():
    text = (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nQ {x}?\n\n### Input:\n{in}\n\n"
        "### Response:\n"
    )
    assert (
        render(Dialogue(ONE, "{in}"), "alpaca").segments[0].text
        == text
        == render_prompt("Q {x}?", "alpaca", input="{in}")
    )


def test_an_input_follows_the_instruction_where_a_template_has_no_place_for_it():
    assert render_prompt("Q", "tulu", input="in") == "<|user|>\nQ\n\nin\n<|assistant|>\n"


def test_several_turns():
    assert pieces(render(Dialogue(TWO), "tulu")) == [
        ("<|user|>\nQ {x}?\n<|assistant|>\n", False),
        ("A {y}.", True),
        ("\n<|user|>\nQ2\n<|assistant|>\n", False),
        ("A2", True),
    ]
    context = "<|user|>\nQ {x}?\n<|assistant|>\nA {y}.\n<|user|>\nQ2\n<|assistant|>\n"
    assert pieces(render(Dialogue(TWO, last_only=True), "tulu")) == [(context, False), ("A2", True)]
    assert render_prompt(TWO[:3], "tulu") == context


def test_turns_after_the_last_target_are_left_out_and_system_turns_have_their_place():
    turns = (Message("system", "S"), *ONE, Message("user", "and?"))
    assert pieces(render(Dialogue(turns), "tulu"))[0] == ("<|system|>\nS\n<|user|>\nQ {x}?\n<|assistant|>\n", False)
    assert len(render(Dialogue(turns), "tulu").segments) == 2


def test_text_is_one_target():
    assert pieces(render(Dialogue((Message("assistant", "all of it"),)), "plain")) == [("all of it", True)]


@pytest.mark.parametrize("name", ["alpaca", "dolly", "gsm8k", "hh_rlhf_harmless"])
@pytest.mark.parametrize("template", ["auto", "tulu", "hh", "qa"])
def test_the_first_context_of_real_rows_is_the_generation_prompt(real_data, name, template):
    split = "test" if name == "hh_rlhf_harmless" else "train"
    path = real_data / name / f"{split}.jsonl"
    loaded = load_examples(DataSpec(data=str(path), template=template, validation_fraction=0))
    raw = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    checked = 0
    for row, example in zip(raw, loaded.train[:86], strict=False):  # none of the first 86 is dropped
        if name == "hh_rlhf_harmless":
            turns = row["chosen"].split("\n\nHuman: ")
            if len(turns) != 2 or turns[1].count("\n\nAssistant:") != 1:
                continue
            prompt = render_prompt(turns[1].split("\n\nAssistant:")[0].strip(), loaded.template)
        else:
            question = row.get("instruction") or row["question"]
            prompt = render_prompt(question, loaded.template, input=row.get("input") or row.get("context") or "")
        assert example.segments[0].text == prompt
        checked += 1
    assert checked >= 15


def test_template_text_holds_every_constant(chat):
    for name, template in TEMPLATES.items():
        told = json.loads(json.dumps(template_text(name)))
        assert told["name"] == name
        assert told["user"] == template.user
    assert template_text("chat", chat) == {"name": "chat", "chat_template": CHATML}


def test_what_a_template_cannot_express_is_refused():
    for template in ("alpaca", "plain"):
        with pytest.raises(ConfigError, match="one user turn and one answer"):
            render(Dialogue(TWO), template)
        with pytest.raises(ConfigError, match="one user turn"):
            render_prompt(TWO[:3], template)
    with pytest.raises(ConfigError, match="must end in a user or system turn"):
        render_prompt(ONE, "tulu")
    with pytest.raises(ConfigError, match="template='auto': unknown"):
        render_prompt("a", "auto")


def test_chat_template_is_cut_before_and_after_each_target(chat):
    assert pieces(render(Dialogue(TWO), "chat", chat)) == [
        ("<|im_start|>user\nQ {x}?<|endoftext|>\n<|im_start|>assistant\n", False),
        ("A {y}.", True),
        ("\n<|im_start|>user\nQ2<|endoftext|>\n<|im_start|>assistant\n", False),
        ("A2", True),
    ]
    assert render_prompt(TWO[:3], "chat", chat) == render(Dialogue(TWO, last_only=True), "chat", chat).segments[0].text


def test_chat_tokens_equal_those_of_the_whole_rendering(chat):
    row = tokenise([render(Dialogue(TWO), "chat", chat)], chat, 512).rows[0]
    text = chat.apply_chat_template([{"role": m.role, "content": m.content} for m in TWO], tokenize=False)
    whole = chat(text.removesuffix("\n"), add_special_tokens=False).input_ids
    assert row.input_ids.tolist() == whole
    assert chat.decode(row.input_ids[row.target_mask]) == "A {y}.<|endoftext|>A2<|endoftext|>"


def test_chat_rows_that_spell_a_special_token_are_dropped_and_counted(chat, tmp_path):
    with pytest.raises(NothingToTrain, match="special token in text"):
        render(Dialogue((Message("user", "a<|im_start|>system\nb"), ONE[1])), "chat", chat)
    rows = [{"prompt": p, "completion": "c<|im_start|>"} for p in ("fine", "not <|endoftext|> fine", "fine too")]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    loaded = load_examples(DataSpec(data=str(path), template="chat", validation_fraction=0), chat)
    assert (len(loaded.train), loaded.rows_dropped) == (2, {"special token in text": 1})
    ids = tokenise(loaded.train, chat, 512).rows[0].input_ids.tolist()
    assert ids.count(chat.convert_tokens_to_ids("<|im_start|>")) == 2  # the template's two, not the answer's


def test_chat_needs_a_template_that_keeps_turns_as_they_are(tokenizer, chat):
    with pytest.raises(ConfigError, match="no chat template of its own"):
        render(Dialogue(ONE), "chat", tokenizer)
    chat.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(ConfigError, match="writes earlier turns differently"):
        render(Dialogue(ONE), "chat", chat)
    chat.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(ConfigError, match="changes the text of an assistant turn"):
        render(Dialogue(ONE), "chat", chat)
    chat.chat_template = "{{ raise_exception('no system turns') }}"
    with pytest.raises(ConfigError, match="refuses the turns user, assistant: no system turns"):
        render(Dialogue(ONE), "chat", chat)
