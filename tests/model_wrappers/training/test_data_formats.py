"""Formats: what each row means, and what is wrong with a row."""

from __future__ import annotations

import pytest

from model_wrappers.training.formats import (
    FORMATS,
    Dialogue,
    EmptyField,
    MalformedRow,
    Message,
    NothingToTrain,
    detect_format,
)

U, A, S = "user", "assistant", "system"


def turns(*pairs):
    return tuple(Message(role, content) for role, content in pairs)


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("prompt_completion", {"prompt": "p", "completion": " c"}, Dialogue(turns((U, "p"), (A, " c")))),
        ("text", {"text": " whole "}, Dialogue(turns((A, " whole ")))),
        ("alpaca", {"instruction": "i", "input": "x", "output": "o"}, Dialogue(turns((U, "i"), (A, "o")), "x")),
        ("alpaca", {"instruction": "i", "output": "o"}, Dialogue(turns((U, "i"), (A, "o")))),
        ("dolly", {"instruction": "i", "context": " ", "response": "r"}, Dialogue(turns((U, "i"), (A, "r")))),
        ("dolly", {"instruction": "i", "context": None, "response": "r"}, Dialogue(turns((U, "i"), (A, "r")))),
        ("gsm8k", {"question": "q", "answer": "a"}, Dialogue(turns((U, "q"), (A, "a")))),
        (
            "messages",
            {
                "messages": [
                    {"role": S, "content": ""},
                    {"role": U, "content": "q"},
                    {"role": A, "content": "a", "x": 1},
                ]
            },
            Dialogue(turns((U, "q"), (A, "a"))),
        ),
    ],
)
def test_rows_are_read_verbatim(name, row, expected):
    assert FORMATS[name].read(row) == expected
    assert detect_format(row, "line 1").name == name


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("\n\nHuman: a\n\nAssistant: b", turns((U, "a"), (A, "b"))),
        ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c", turns((U, "a"), (A, "b"))),
        ("\n\nHuman: a\n\nHuman: b\n\nAssistant: c\n\nAssistant: d", turns((U, "a\n\nb"), (A, "c\n\nd"))),
        ("\n\nHuman: a\n\nAssistant: \n\nAssistant: d\n\nHuman:\n\nHuman: x", turns((U, "a"), (A, "d"))),
        ("\n\nAssistant: a", turns((A, "a"))),
        (
            "\n\nHuman: say Human: or\nAssistant: once\n\nAssistant: no\n\nyes",
            turns((U, "say Human: or\nAssistant: once"), (A, "no\n\nyes")),
        ),
    ],
)
def test_hh_turns(chosen, expected):
    read = FORMATS["hh"].read({"chosen": chosen, "rejected": 3})
    assert read.messages == expected
    assert read.targets() == (len(expected) - 1,)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ("\n\nHuman: a", "no assistant turn"),
        ("\n\nHuman: a\n\nAssistant: ", "empty target"),
        ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:\n\nHuman: d", "empty target"),
        (" ", "empty target"),
        ("hello\n\nAssistant: b", "text before the first turn"),
    ],
)
def test_hh_rows_with_nothing_to_train_on(chosen, reason):
    with pytest.raises(NothingToTrain, match=reason):
        FORMATS["hh"].read({"chosen": chosen})


@pytest.mark.parametrize("chosen", [None, 3, [{"role": "user", "content": "a"}]])
def test_hh_rows_of_another_kind_are_malformed(chosen):
    with pytest.raises(MalformedRow, match=r"'chosen' is (null|of type)"):
        FORMATS["hh"].read({"chosen": chosen})


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("text", "'messages' is of type str"),
        ([], "0 turns and none of the assistant's"),
        ([{"role": "user", "content": "a"}], "1 turns and none"),
        (["a"], "message 1 is of type str"),
        (
            [{"role": "tool", "content": "a"}],
            "message 1 has the role 'tool'; it must be one of system, user, assistant",
        ),
        ([{"role": ["user"], "content": "a"}], "message 1 has the role"),
        ([{"content": "a"}], "message 1 has the role None"),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant"}],
            r"message 2 \(assistant\): field 'content' is missing",
        ),
    ],
)
def test_malformed_messages(messages, message):
    with pytest.raises(MalformedRow, match=message) as caught:
        FORMATS["messages"].read({"messages": messages})
    assert caught.type is MalformedRow


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_blank_turns_are_told_apart_from_malformed_ones(role):
    other = "assistant" if role == "user" else "user"
    with pytest.raises(EmptyField, match=rf"\({role}\): field 'content' is empty"):
        FORMATS["messages"].read({"messages": [{"role": other, "content": "a"}, {"role": role, "content": "\n"}]})


def test_every_assistant_turn_of_messages_is_a_target():
    rows = [{"role": r, "content": "x"} for r in (S, U, A, U, A, U)]
    assert FORMATS["messages"].read({"messages": rows}).targets() == (2, 4)


def test_detection_prefers_the_more_specific_format():
    assert detect_format({"prompt": "p", "chosen": "c", "rejected": "r"}, "").name == "hh"
    assert detect_format({"prompt": "p", "completion": "c", "text": "t"}, "").name == "prompt_completion"
    assert detect_format({"id": 1, "messages": [], "prompt": "", "completion": ""}, "").name == "messages"
