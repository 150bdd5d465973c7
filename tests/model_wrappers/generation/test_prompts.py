"""Templates of prompts, the ends of answers, and how both fit the context."""

from __future__ import annotations

import pickle

import pytest

from model_wrappers.errors import ConfigError
from model_wrappers.generation.options import GenerateOptions
from model_wrappers.generation.prompts import TUNING, Instruction, answer_length, next_turns, resolve_template, write
from model_wrappers.training.formats import Message
from model_wrappers.training.templates import TEMPLATES, render_prompt

CHAT_TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)


@pytest.mark.parametrize("template", list(TEMPLATES))
def test_a_prompt_is_what_training_put_before_the_answer(template):
    prompt = write("Name {a} tree.", template)
    assert prompt == render_prompt("Name {a} tree.", template)
    assert isinstance(prompt, Instruction)
    assert isinstance(pickle.loads(pickle.dumps(prompt)), Instruction)


@pytest.mark.parametrize("template", [name for name, form in TEMPLATES.items() if form.multi_turn])
def test_an_answer_ends_where_the_next_user_turn_would_begin(template):
    turns = [Message("user", "Hello."), Message("assistant", "ANSWER"), Message("user", "And?")]
    after = render_prompt(turns, template).partition("ANSWER")[2]
    (stop,) = next_turns(template)
    assert after.lstrip("\n").startswith(stop.lstrip("\n"))
    assert stop in after


def test_single_turn_templates_end_at_another_instruction():
    assert next_turns("alpaca") == ("### Instruction:",)
    assert next_turns("alpaca")[0] in render_prompt("x", "alpaca")
    assert next_turns("plain") == ()


def test_the_tuning_decides_unless_the_request_names_a_template(tokenizer):
    assert resolve_template(TUNING, "hh", tokenizer) == "hh"
    assert resolve_template("qa", "hh", tokenizer) == "qa"


def test_without_tuning_the_chat_template_else_an_error(tokenizer):
    with pytest.raises(ConfigError, match=r"no template.*metadata.*allowed: tulu"):
        resolve_template(TUNING, None, tokenizer)
    import copy

    chatty = copy.deepcopy(tokenizer)
    chatty.chat_template = CHAT_TEMPLATE
    assert resolve_template(TUNING, None, chatty) == "chat"
    assert write("Hi", "chat", chatty) == "[user]Hi[a]"
    with pytest.raises(ConfigError, match="no chat template"):
        resolve_template("chat", None, tokenizer)


def test_an_answer_is_shortened_before_a_prompt_is_cut():
    assert answer_length(10, 100, 200) == (100, False)
    assert answer_length(100, 100, 200) == (100, False)
    for prompt in range(101, 189):  # a sixteenth of 200 is 12
        room = answer_length(prompt, 100, 200)
        assert room.tokens % 12 == 0
        assert not room.truncated
        assert 200 - prompt - 12 < room.tokens <= 200 - prompt
    assert answer_length(189, 100, 200) == (12, True)
    assert answer_length(5000, 100, 200) == (12, True)
    assert answer_length(197, 3, 200) == (3, False)
    assert answer_length(198, 3, 200) == (3, True)
    assert len({answer_length(n, 1024, 2048).tokens for n in range(4096)}) <= 17


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"generate_backend": "vlm"}, "generate_backend"),
        ({"generate_backend": "hf", "generate_url": "http://127.0.0.1:1/v1"}, "contradict"),
    ],
)
def test_options_that_cannot_be(given, message):
    with pytest.raises(ConfigError, match=message):
        GenerateOptions.parse(given)


def test_another_back_end_is_another_kind_of_request():
    kinds = {GenerateOptions(generate_backend=b).request_kind for b in ("hf", "vllm")}
    assert kinds == {"generate_until", "generate_until/vllm"}
