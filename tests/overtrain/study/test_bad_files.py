"""Files that no editor would write: each is one `ConfigError`, whatever is wrong with it."""

from __future__ import annotations

import pytest

from model_wrappers.errors import ConfigError
from overtrain.plan.load import load_study

STUDY = """\
name: small
checkpoints: [{repo: org/model, revisions: [tokens1B, tokens2B]}]
modifications: {noise: {gaussian: {gamma: [0.05, 0.1]}}}
tasks: [overtrain_c4]
"""


def message(path):
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("", "must be a mapping that starts like 'name: my_study'"),
        ("# only a comment\n", "must be a mapping that starts like"),
        ("name: caf\u00e9\n".encode("latin-1"), "give a YAML file in UTF-8"),
        (b"name: a\x00b\n", "not valid YAML: unacceptable character #x0000"),
        (STUDY + "evaluation: [1]\n", "line 5: evaluation: must be a mapping (key: value), not a list"),
        (STUDY + "evaluation:\n", "line 5: evaluation: must be a mapping (key: value), not nothing"),
        (STUDY + "? [a, b]\n: 3\n", "line 5: study: a key must be text, not a list"),
        (STUDY.replace("small", "x" * 300), "must be at most 200 letters"),
        (STUDY.replace("noise", "n" * 300), "has 300 letters; at most 100"),
        (STUDY.replace("[overtrain_c4]", "{a: 1}"), "line 4: tasks: must be a value, not a mapping"),
        ("name: &a [*a]\n" + STUDY.partition("\n")[2], "line 1: not plain data: found unconstructable recursive node"),
        (STUDY + f"evaluation: {{text_file: {'x' * 400}}}\n", "no such file beside"),
        (STUDY + f"seeds: [{'9' * 5000}]\n", "line 5: not plain data: Exceeds the limit"),
        (STUDY + "include: nope.yaml\n", "nope.yaml: cannot be read"),
        (STUDY + "inlcude: nope.yaml\n", "unknown key 'inlcude'; did you mean 'include'?"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_strange_file_is_one_error(tmp_path, content, expected):
    path = tmp_path / "study.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert expected in message(path)


@pytest.mark.parametrize("name", ["x" * 300, "micro/\0", "."])
def test_a_name_that_is_no_file(name):
    assert "no such file and no such preset" in message(name)


def test_every_form_of_checkpoint_is_checked_in_the_same_pass(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("""\
name: forms
checkpoints:
  - just a name
  - {repo: org/model, revisions: [{revison: a}, {revision: tokens1B, tokens: many}]}
  - {folders: [nowhere, {path: }]}
  - {ladder: [256_000]}
  - {ladder: {budgets: [256_000], heads: 0, betas: [0.9]}}
  - {ladder: {budgets: [256_000], width: 15}}
  - {repo: org/tuned, base: org/model, variant: chat}
  - {repo: org/tuned, folder: org, base: {tokens: 5}, variant: base, fields: 3}
tasks: [overtrain_c4]
""")
    _, *found = message(path).splitlines()
    expected = {
        3: ["checkpoints: must be a mapping (key: value), not 'just a name'"],
        4: [
            "checkpoints.revisions.tokens='many': must be an integer or none",
            "checkpoints.revisions: needs 'revision'",
            "checkpoints.revisions: unknown key 'revison'; did you mean 'revision'?",
        ],
        5: ["checkpoints.folders.path='nowhere': no such folder", "checkpoints.folders.path=None: must be text"],
        6: ["checkpoints.ladder: must be a mapping (key: value), not a list"],
        7: ["checkpoints.ladder.betas: must be 2 values, not 1", "checkpoints.ladder.heads=0: must be 1 or more"],
        8: ["checkpoints.ladder: width=15, heads=2: width / heads must be an even integer"],
        9: ["checkpoints.base: must be a mapping (key: value), not 'org/model'"],
        10: [
            "checkpoints.base: give one of 'repo' and 'folder'",
            "checkpoints.fields: must be a mapping such as {epochs: 1}, not '3'",
            "checkpoints.folder='org': no such folder",
            "variant='base': that is the unmodified checkpoint",
        ],
    }
    flat = [(line, words) for line, several in expected.items() for words in several]
    lines = [(int(text.split()[1].rstrip(":")), text) for text in found]
    assert len(lines) == len(flat), "\n".join(found)
    assert all(any(n == line and words in text for n, text in lines) for line, words in flat), "\n".join(found)


def test_a_reference_may_name_every_field_of_the_studys_modifications(tmp_path):
    path = tmp_path / "study.yaml"
    sft = "modifications: {sft: {finetune: {data: alpaca, learning_rate: 1e-5, epochs: [1, 2, 3]}}}"
    text = STUDY.replace(STUDY.splitlines()[2], sft).replace("_c4]", "_c4, overtrain_alpaca_eval]")
    path.write_text(f"{text}reference: {{epochs: 2}}\n")
    assert load_study(path).reference.fields == {"epochs": 2.0}
    path.write_text(f"{text}reference: {{epochs: 4}}\n")
    assert "line 5: reference.epochs=4: not in the grid (there: 1, 2, 3)" in message(path)
    path.write_text(f"{text}reference: {{epoch: 2, seed: -1}}\n")
    assert "unknown key 'epoch'; did you mean 'epochs'? (allowed: checkpoint, seed, variant, epochs" in message(path)
    assert "reference.seed=-1: must be 0 or more" in message(path)
    path.write_text(f"{text}reference: {{epochs: two}}\n")
    assert "line 5: reference.epochs='two': must be a finite number" in message(path)
