"""The demo end to end, at its smallest, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from model_wrappers.errors import StoreError
from overtrain.demo import run
from overtrain.demo.arithmetic import rows, write_rows
from overtrain.demo.page import command
from overtrain.demo.plan import FULL, QUICK, Cell

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished quick demo, started twice: killed with -9 as soon as there is a cell, then run to its end."""
    out = tmp_path_factory.mktemp("demo") / "it's <here> & now"
    script = (
        f"from overtrain.demo import run\nif __name__ == '__main__':\n    run({str(out)!r}, quick=True, workers=2)\n"
    )
    (out.parent / "killed.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, out.parent / "killed.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 200
    while not list(out.glob("cells/*.json")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.wait()
    process.stderr.close()
    early = {path: path.stat().st_mtime_ns for path in (*out.glob("cells/*.json"), *out.glob("checkpoints/*/*"))}
    page = run(out, quick=True, workers=2)
    assert all(path.stat().st_mtime_ns == changed for path, changed in early.items())
    assert early
    return page


def test_every_promised_file_is_there(demo):
    from PIL import Image

    out = demo.parent
    assert demo == out / "index.html"
    with Image.open(out / "figure.png") as image:
        assert image.size == (1800, 750)
    assert len(list((out / "cells").iterdir())) == 2 * 5
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["tokens-20480", "tokens-40960"]
    results = pd.read_csv(out / "results.csv")
    assert len(results) == 10 * 3
    assert set(results["modification"]) == {"base", "gaussian", "finetune"}
    assert results.loc[results["modification"] == "gaussian", "gamma"].unique() == [0.2]
    assert results["value"].gt(0).all()
    assert results["stderr"].gt(0).all()


def test_cells_are_lm_evals_own_results(demo):
    for path in (demo.parent / "cells").iterdir():
        content = json.loads(path.read_text("utf-8"))
        assert content["config"]["overtrain"]["tokens"] in {20480, 40960}
        assert content["lm_eval_version"]
        pairs = [sample["nll_per_token"] for sample in content["samples"]["overtrain_text"]]
        value = content["results"]["overtrain_text"]["nll_per_token,none"]
        assert value == pytest.approx(-sum(pair[0] for pair in pairs) / sum(pair[1] for pair in pairs))


def test_curves_agree_with_the_cells(demo):
    out = demo.parent
    curves = pd.read_csv(out / "curves.csv")
    results = pd.read_csv(out / "results.csv")
    for modification in ("base", "gaussian", "finetune"):
        chosen = results[(results["metric"] == "nll_per_token") & (results["modification"] == modification)]
        expected = chosen.groupby("tokens")["value"].mean()
        found = curves[(curves["quantity"] == "loss") & (curves["modification"] == modification)]
        assert found.set_index("tokens")["mean"].to_dict() == pytest.approx(expected.to_dict())


def test_a_base_cells_documents_give_its_standard_error(demo):
    """The curve's error over documents is lm-eval's own for a cell without seeds."""
    out = demo.parent
    base = pd.read_csv(out / "curves.csv").query("modification == 'base'").set_index("tokens")["stderr"]
    results = pd.read_csv(out / "results.csv").query("modification == 'base' and metric == 'nll_per_token'")
    assert base.to_dict() == pytest.approx(results.set_index("tokens")["stderr"].to_dict())


def test_page_is_whole_and_escaped(demo):
    page = demo.read_text("utf-8")
    assert "One pre-training seed." in page
    assert "data:image/png;base64," in page
    assert "<here>" not in page
    assert "&lt;here&gt; &amp; now" in page
    assert not re.search(r"(?:src|href)=\"https?:", page)
    assert "NaN" not in re.sub(r"base64,[^\"]*", "", page)


def test_finished_demo_only_reports_again(demo):
    before = {path: path.stat().st_mtime_ns for path in (demo.parent / "cells").iterdir()}
    written = demo.stat().st_mtime_ns
    assert run(demo.parent, quick=True) == demo
    assert {path: path.stat().st_mtime_ns for path in (demo.parent / "cells").iterdir()} == before
    assert demo.stat().st_mtime_ns > written


def test_folder_of_another_plan_is_refused(demo):
    with pytest.raises(StoreError, match="another plan"):
        run(demo.parent, quick=False)


def test_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write under"):
        run(tmp_path / "file", quick=True)


def test_interrupt_says_how_to_go_on(tmp_path):
    script = "from overtrain.demo import run\nif __name__ == '__main__':\n    run('there', quick=True)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline().startswith("Collecting text")
    process.send_signal(signal.SIGINT)
    assert "go on with: overtrain demo --out there --quick" in process.communicate(timeout=60)[1]


@pytest.mark.slow
def test_stock_lm_eval_repeats_a_cell(demo, tmp_path):
    """The command that the page shows, run as it stands, gives the cell's very number."""
    out = demo.parent
    cell = list(QUICK.cells(40_960))[-1]
    assert cell.kind == "finetune"
    shown = command(cell, QUICK, out).replace('"$(overtrain tasks)"', shlex.quote(str(ROOT / "overtrain_tasks")))
    assert command(cell, QUICK, out) in _unescaped(demo)
    binaries = str(Path(sys.executable).parent)
    subprocess.run(
        ["bash", "-c", f"{shown} --output_path {tmp_path}/results"],
        env=os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    (found,) = tmp_path.rglob("results_*.json")
    expected = json.loads(QUICK.result(cell, out).read_text("utf-8"))["results"]["overtrain_text"]
    again = json.loads(found.read_text("utf-8"))["results"]["overtrain_text"]
    assert again["nll_per_token,none"] == expected["nll_per_token,none"]


def test_plan_has_a_cell_per_strength_and_seed():
    assert sum(len(list(FULL.cells(tokens))) for tokens in FULL.tokens) == 7 * (1 + 4 * 4 + 2 * 3)
    names = [cell.name for tokens in FULL.tokens for cell in FULL.cells(tokens)]
    assert len(names) == len(set(names))


def test_cells_name_only_the_wrappers_arguments(tmp_path):
    assert Cell(100, "gaussian", 0.1, 3).model(FULL, tmp_path) == (
        "overtrain_perturb",
        {"pretrained": str(tmp_path / "checkpoints" / "tokens-100"), "gamma": 0.1, "seed": 3},
    )
    model, arguments = Cell(100, "finetune", 1e-3, 2).model(FULL, tmp_path)
    assert model == "overtrain_ft"
    assert (arguments["learning_rate"], arguments["seed"], arguments["max_steps"]) == (1e-3, 2, 32)


def test_commands_are_plain_where_the_path_allows():
    cell = Cell(256_000, "gaussian", 0.1, 3)
    plain = command(cell, FULL, Path("runs/demo"))
    assert "--model_args pretrained=runs/demo/checkpoints/tokens-256000,gamma=0.1,seed=3 " in plain
    assert """--metadata '{"text_file": "runs/demo/text/held_out.jsonl"}' """ in plain
    assert '--model_args \'{"pretrained": "a, b/checkpoints' in command(cell, FULL, Path("a, b"))


def test_sums_are_right():
    made = rows(200)
    assert rows(200) == made
    for row in made:
        a, b = map(int, row["prompt"].removesuffix(" =").split(" + "))
        assert row["completion"] == f" {a + b}"
    assert [json.loads(line) for line in write_rows(3).splitlines()] == made[:3]


def _unescaped(page):
    import html

    return html.unescape(page.read_text("utf-8"))
