"""A real vLLM server as judge: the same preferences as alpaca_eval, and a study that is killed at half and finished."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import yaml
from judge_model import CONTEXT, make_judge
from overtrain_tiny import write_study

from model_wrappers.serving.endpoint import Endpoint
from model_wrappers.serving.server import PYTHON_VARIABLE, VllmServer
from overtrain.judging.backends import logprobs
from overtrain.judging.backends.base import Question, reach
from overtrain.judging.orders import shown_first
from overtrain.judging.preferences import Preference
from overtrain.judging.prompt import load_template
from overtrain.results.frame import load_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

CONFIGS = Path(__file__).parents[3] / "configs" / "alpaca_eval" / "weighted_vllm_llama3_70b"
PAIRS = 100


def needed(what: bool, name: str) -> None:
    """Skip without ``name``; in CI that is a failure."""
    if what:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {name}")
    pytest.skip(f"no {name}")


@pytest.fixture(scope="module")
def pairs(real_data) -> list[dict[str, str]]:
    """Real instructions with two real answers each, cut so that every prompt fits the tiny judge's context."""
    one, two = (
        [json.loads(line) for line in (real_data / "alpaca_eval" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("text_davinci_003", "gpt4_1106_preview")
    )
    rows = zip(one, two, strict=True)
    found = [
        {"instruction": a["instruction"], "reference": a["output"][:500], "answer": b["output"][:500], "dataset": "x"}
        for a, b in rows
        if len(a["instruction"]) < 600 and a["instruction"].isascii()
    ]
    return found[:PAIRS]


@pytest.fixture(scope="module")
def judge_server(tmp_path_factory, pairs) -> Iterator[Endpoint]:
    """A tiny judge, served by vLLM under the name that the evaluator's configuration has."""
    needed(bool(os.environ.get(PYTHON_VARIABLE)) or importlib.util.find_spec("vllm") is not None, "vLLM")
    needed(importlib.util.find_spec("alpaca_eval") is not None, "alpaca_eval")
    template = load_template()
    chats = [template.fill(p["instruction"], p["reference"], p["answer"]) for p in pairs[:40]]
    texts = [m["content"] for chat in chats for m in chat]
    folder = make_judge(tmp_path_factory.mktemp("judge"), texts, chats)
    (settings,) = yaml.safe_load((CONFIGS / "configs.yaml").read_text()).values()
    name = settings["completions_kwargs"]["model_name"]
    with VllmServer(
        folder,
        dtype="float32",
        max_model_len=CONTEXT,
        extra=["--served-model-name", name],
        environment={"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        start_timeout=300,
    ) as server:
        yield Endpoint(url=server.url, model=name, concurrency=8)


def preferences(endpoint: Endpoint, pairs: list[dict[str, str]]) -> np.ndarray:
    """Return alpaca_eval's preference (2: the answer wins) of every pair, in its own order, as our judge has it."""
    template = load_template()
    asked: dict[bytes, int] = {}
    found: dict[int, Preference] = {}

    async def go() -> None:
        backend = await logprobs.prepare(await reach(endpoint, template))
        questions = []
        for i, pair in enumerate(pairs):
            (answer_first,) = shown_first(pair["instruction"], "one")
            texts = (pair["answer"], pair["reference"]) if answer_first else (pair["reference"], pair["answer"])
            messages = template.fill(pair["instruction"], *texts)
            asked[backend.key(messages)] = i
            questions.append(Question(backend.key(messages), messages))
        await backend.ask(questions, lambda key, reply, _: found.update({asked[key]: reply}))

    asyncio.run(go())
    assert all(isinstance(v, Preference) and not v.one_token for v in found.values())
    wins = [
        found[i].first if shown_first(pair["instruction"], "one")[0] else 1 - found[i].first
        for i, pair in enumerate(pairs)
    ]
    return 1 + np.array(wins)


def of_alpaca_eval(endpoint: Endpoint, pairs: list[dict[str, str]], folder: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Return alpaca_eval's own preferences and its leaderboard, from its command line."""
    for name in ("reference", "answer"):
        rows = [{"instruction": p["instruction"], "output": p[name], "generator": name, "dataset": "x"} for p in pairs]
        (folder / f"{name}.json").write_text(json.dumps(rows))

    shutil.copytree(CONFIGS, folder / "evaluators" / "judge")  # alpaca_eval writes its cache beside the configuration
    template = subprocess.run(
        [Path(sys.executable).with_name("overtrain"), "judge", "--print-template"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    done = subprocess.run(
        [
            Path(sys.executable).with_name("alpaca_eval"),
            *("--model_outputs", folder / "answer.json", "--reference_outputs", folder / "reference.json"),
            *("--annotators_config", folder / "evaluators" / "judge", "--prompt_template", template),
            *("--fn_metric", "get_winrate", "--sort_by", "win_rate", "--output_path", folder / "out"),
        ],
        check=False,
        env=os.environ | {"OPENAI_API_BASE": endpoint.url, "OPENAI_API_KEY": "none"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {r["instruction"]: r["preference"] for r in json.loads((folder / "out" / "annotations.json").read_text())}
    board = pd.read_csv(folder / "out" / "leaderboard.csv", index_col=0)
    return np.array([rows[p["instruction"]] for p in pairs], float), board


def test_preferences_are_alpaca_evals(judge_server, pairs, tmp_path, monkeypatch):
    """One order each: per pair within 1e-3, a fifth of the pairs on each side; with the names swapped it fails."""
    from overtrain.report.export.alpaca_eval import leaderboard_row

    theirs, board = of_alpaca_eval(judge_server, pairs, tmp_path)
    (tmp_path / "a").mkdir()
    ours = preferences(judge_server, pairs)
    assert min((theirs > 1.5).mean(), (theirs < 1.5).mean()) >= 0.2
    assert abs(ours - theirs).max() <= 1e-3
    row = leaderboard_row(list(theirs), [p["answer"] for p in pairs])
    assert list(board.columns) == list(row)
    for name, value in row.items():
        assert board.loc["answer", name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9)), name
    monkeypatch.setattr(logprobs, "FIRST", "M")
    monkeypatch.setattr(logprobs, "SECOND", "m")
    (tmp_path / "b").mkdir()
    assert abs(preferences(judge_server, pairs) - theirs).max() > 0.1


STUDY = """\
name: judged
checkpoints:
  - folders:
      - {{path: {one}, tokens: 1000}}
      - {{path: {two}, tokens: 2000}}
modifications:
  sft:
    finetune: {{data: sums.jsonl, learning_rate: [1e-3, 1e-2], max_steps: 2, train_batch_size: 4, train_max_length: 64}}
seeds: [0, 1]
tasks: [overtrain_text, overtrain_alpaca_eval]
evaluation:
  {{text_file: text.jsonl, batch_size: 16, device: cpu, limit: 40, metadata: {{generation: {{max_gen_toks: 24}}}}}}
reference: {{checkpoint: 2000, learning_rate: 1e-2, seed: 0}}
"""


def overtrain(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("overtrain")), *map(str, arguments)]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def succeeded(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def preferences_in(folder: Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{folder}/judge/verdicts.sqlite?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM verdicts").fetchone()[0]
    except sqlite3.Error:  # not there yet
        return 0


def test_a_study_killed_at_half_of_its_judging(judge_server, make_model, real_data, tmp_path):
    """Two checkpoints, tuned, against one reference; -9 at half of the preferences; the same win rates as undisturbed."""
    study = write_study(tmp_path, make_model("llama", seed=0), make_model("llama", seed=1), STUDY)
    swept = overtrain("sweep", study, "--runs", tmp_path / "a", OVERTRAIN_DATA=str(real_data))
    succeeded(swept)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    server = ("--judge-url", judge_server.url, "--judge-model", judge_server.model)
    undisturbed = overtrain("judge", tmp_path / "a" / "judged", *server)
    out = succeeded(undisturbed)
    assert "7 cells scored; 560 of 560 questions asked now, 0 items missing" in out

    killed = overtrain("judge", tmp_path / "b" / "judged", *server, "--concurrency", "2")
    while preferences_in(tmp_path / "b" / "judged") < 280:
        assert killed.poll() is None, killed.stderr.read()
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "b" / "judged" / "judge" / "scores.json").exists()
    kept = preferences_in(tmp_path / "b" / "judged")
    assert 280 <= kept < 560
    finished = overtrain("judge", tmp_path / "b" / "judged", *server)
    out = succeeded(finished)
    asked = int(re.search(r"(\d+) of 560 questions asked now", out)[1])
    assert 0 < asked <= 560 - kept  # fewer where two cells gave the same answer: one preference serves both

    one, other = (load_runs(tmp_path / name / "judged") for name in "ab")
    assert one["metric"].eq("win_rate").sum() == 8
    keys = ["cell_id", "task", "metric"]
    pd.testing.assert_frame_equal(
        one.sort_values(keys, ignore_index=True), other.sort_values(keys, ignore_index=True), rtol=1e-4
    )
    wins = one[(one["metric"] == "win_rate") & ~one["reference"]]["value"]
    assert wins.notna().all()
    assert wins.max() - wins.min() > 1

    shown = overtrain("report", tmp_path / "b" / "judged")
    succeeded(shown)
    page = (tmp_path / "b" / "judged" / "report" / "index.html").read_text()
    assert 'id="alpaca_eval"' in page
    assert f">{wins.iloc[0]:.4g}<" in page
    written = overtrain("export", tmp_path / "b" / "judged", "--form", "alpaca_eval", "--out", tmp_path / "files")
    succeeded(written)
    check_alpaca_files(tmp_path / "files", one)


def check_alpaca_files(folder: Path, frame: pd.DataFrame) -> None:
    """alpaca_eval's own metric over every exported ``annotations.json`` is the leaderboard's row and the frame's win rate."""
    script = (
        "import json, sys\n"
        "from alpaca_eval.metrics import get_winrate\n"
        "print(json.dumps([float(get_winrate(json.load(open(f)))['win_rate']) for f in sys.argv[1:]]))\n"
    )
    (board,) = folder.glob("*/leaderboard.csv")
    table = pd.read_csv(board, index_col=0)
    files = sorted(folder.glob("*/*/annotations.json"))
    names = [json.loads(f.read_text())[0]["generator_2"] for f in files]
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *files], capture_output=True, text=True, check=True
    )
    theirs = json.loads(said.stdout.splitlines()[-1])
    assert len(files) == 7
    assert [table.loc[name, "win_rate"] for name in names] == pytest.approx(theirs)
    rates = frame[(frame["metric"] == "win_rate") & ~frame["reference"]]["value"]
    assert sorted(theirs) == pytest.approx(sorted(rates), rel=1e-4)
    (settings,) = yaml.safe_load((folder / "evaluator" / "configs.yaml").read_text()).values()
    assert Path(settings["prompt_template"]).is_file()
