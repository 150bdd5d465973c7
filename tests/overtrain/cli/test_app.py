"""The command line: help ends in two commands that run, and errors are one message."""

from __future__ import annotations

import pytest
from commands import run
from typer.testing import CliRunner

from overtrain.cli.app import app


def helps(command: list[str]) -> str:
    return CliRunner().invoke(app, [*command, "--help"]).output


def leaves(group=None, path=()):
    import typer

    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield [*path, name]


@pytest.mark.parametrize("verb", list(leaves()), ids=" ".join)
def test_every_verb_ends_its_help_in_two_commands(verb):
    examples = helps(verb).partition("Examples:")[2].strip().splitlines()
    commands = [line.strip() for line in examples if line.strip()]
    assert len(commands) == 2
    assert all("overtrain" in c for c in commands)


def test_cache_proofs_are_listed_and_forgotten(own_cache, monkeypatch):
    from model_wrappers.scoring import proofs

    monkeypatch.setattr(proofs, "_known", {})
    about = {"model": "transformers.x.OlmoForCausalLM", "dtype": "torch.float32", "asked": "pairs", "up_to_tokens": 64}
    proofs.remember(about | {"device": "cpu AVX2"}, "they differ")
    place = {"OVERTRAIN_CACHE": str(own_cache)}
    listed = run("overtrain", "cache", "proofs", **place).stdout
    assert "OlmoForCausalLM  torch.float32, pairs up to 64 tokens, cpu AVX2  they differ" in listed
    assert run("overtrain", "cache", "proofs", "--forget", **place).stdout == "removed 1 comparisons\n"
    assert run("overtrain", "cache", "proofs", **place).stdout == ""


def test_cache_list_and_prune_run(own_cache):
    assert "0 entries" in run("overtrain", "cache", "list", OVERTRAIN_CACHE=str(own_cache)).stdout
    done = run("overtrain", "cache", "prune", "--keep-gb", "1", OVERTRAIN_CACHE=str(own_cache))
    assert done.stdout.strip() == "removed 0 entries"


def test_help_imports_neither_torch_nor_lm_eval():
    code = "import sys, overtrain.cli.app; print(sorted({'torch', 'lm_eval', 'transformers', 'pandas'} & set(sys.modules)))"
    import sys

    assert run(sys.executable, "-c", code).stdout.strip() == "[]"
