"""`examples/own_modification`, as a user would use it: built, installed, and run through lm_eval, a sweep and the report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from overtrain_tiny import TEXTS

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own_modification"
STUDY = """\
name: ranks
checkpoints:
  - folders:
      - {{path: {one}, tokens: 1000}}
      - {{path: {two}, tokens: 2000}}
modifications:
  low_rank: {{truncate: {{kept_share: [1.0, 0.75, 0.25]}}}}
seeds: [0, 1]
tasks: [overtrain_text]
evaluation: {{text_file: text.jsonl, batch_size: 2, device: cpu}}
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a new virtual environment that holds the example and sees everything installed here."""
    folder = tmp_path_factory.mktemp("own")
    venv.create(folder / "venv", with_pip=False)
    interpreter = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    here = f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})"
    (site / "parent.pth").write_text(f"{here}\nimport sys; sys.path.insert(0, {str(ROOT)!r})\n")
    copied = shutil.copytree(EXAMPLE, folder / "own_modification")  # a build leaves files beside its source
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    _run(*wheel, "--wheel-dir", str(folder), str(copied))
    (built,) = folder.glob("*.whl")
    _run(sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--no-deps", "--no-index", str(built))
    return interpreter


def _run(*command, cwd=None, fails=False):
    unset = {"PYTHONPATH", "PYTEST_CURRENT_TEST", "PYTEST_ADDOPTS"}
    env = {k: v for k, v in os.environ.items() if k not in unset} | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert (done.returncode != 0) is fails, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def test_its_own_tests_pass(python, tmp_path):
    test = shutil.copy(EXAMPLE / "test_truncate.py", tmp_path)
    said = _run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test, cwd=tmp_path)
    assert " passed" in said


def test_stock_lm_eval_applies_it(python, make_model, texts, tmp_path):
    import overtrain_tasks

    folder = make_model("olmo")
    perplexity = []
    for given in ("kept_share=1.0", "kept_share=0.25"):
        out = tmp_path / given
        command = [
            python,
            "-m",
            "lm_eval",
            "--model",
            "overtrain_perturb",
            "--tasks",
            "overtrain_text",
            "--device",
            "cpu",
        ]
        command += ["--include_path", str(overtrain_tasks.path()), "--metadata", json.dumps({"text_file": str(texts)})]
        _run(*command, "--model_args", f"pretrained={folder},kind=truncate,{given}", "--output_path", out, cwd=tmp_path)
        (results,) = out.rglob("results_*.json")
        content = json.loads(results.read_text())
        (applied,) = content["config"]["overtrain"]["modifications"]
        assert (applied["modification"], applied["metrics"].get("distance", 0) > 0) == ("truncate", "0.25" in given)
        perplexity.append(next(v for k, v in content["results"]["overtrain_text"].items() if "perplexity" in k))
    assert perplexity[0] != perplexity[1]


def test_a_wrong_value_is_one_message(python, make_model, tmp_path):
    arguments = f"pretrained={make_model('olmo')},kind=truncate,kept_share=2"
    command = [python, "-m", "lm_eval", "--model", "overtrain_perturb", "--tasks", "boolq", "--model_args", arguments]
    said = _run(*command, cwd=tmp_path, fails=True)
    assert "error: kept_share=2.0: must be above 0 and at most 1" in said


def test_a_sweep_and_its_report(python, make_model, texts, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(one=make_model("olmo", seed=0), two=make_model("olmo", seed=1)))
    overtrain = [python, "-m", "overtrain"]
    _run(*overtrain, "sweep", study, "--runs", tmp_path / "runs", cwd=tmp_path)
    record = json.loads((tmp_path / "runs" / "ranks" / "study.json").read_text())
    cells = [cell for cell in record["cells"] if cell["variant"] == "low_rank"]
    # The share 1.0 is the base cell, and two seeds of what is not random are one cell.
    assert sorted((c["tokens"], c["fields"]["kept_share"]) for c in cells) == [
        (tokens, share) for tokens in (1000, 2000) for share in (0.25, 0.75)
    ]
    assert all(f"kept_share={c['fields']['kept_share']}" in c["label"] for c in cells)
    _run(*overtrain, "report", tmp_path / "runs" / "ranks", cwd=tmp_path)
    (page,) = (tmp_path / "runs").rglob("*.html")
    assert "low_rank" in page.read_text()
