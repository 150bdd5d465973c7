"""``overtrain serve``: what is printed, what is found, and a server that stays until Ctrl-C."""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import sys
import threading
import urllib.request

import pytest
from study_records import cell_record, write_cells

from model_wrappers.cache import WeightsCache
from model_wrappers.errors import ConfigError, ServerError
from model_wrappers.serving import server as serving
from overtrain.judging.serve import DEFAULT_JUDGE, locate, printed, run

FAKE = """\
#!{python}
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
if os.environ.get("FAKE_MODE") == "ends":
    import threading
    threading.Timer(1.0, lambda: os._exit(3)).start()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
print("here we are", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
IDS = ["a" * 63 + "0", "b" * 64]


@pytest.fixture
def fake(tmp_path):
    path = tmp_path / "python"
    path.write_text(FAKE.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def cached():
    """A cache with one entry per id."""
    cache = WeightsCache()
    for name in IDS:
        cache.get_or_create(name, lambda folder, work: {})
    return cache


def study(folder, weights=IDS[0]):
    folder.mkdir()
    cells = [
        cell_record("m sft learning_rate=0.1 seed=0", cell_id="c" * 64, weights_id=weights),
        cell_record("m sft learning_rate=0.1 seed=1", cell_id="d" * 64, weights_id="e" * 64),
        cell_record("m sft learning_rate=0.2 seed=0"),
    ]
    write_cells(folder, cells)
    return str(folder)


def test_the_judge_of_the_paper_over_four_gpus(monkeypatch):
    monkeypatch.delenv(serving.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda _: None)
    words = shlex.split(printed(DEFAULT_JUDGE, gpus=4))
    assert words[:3] == ["python", "-m", "vllm.entrypoints.openai.api_server"]
    pairs = dict(itertools.pairwise(words))
    assert pairs["--model"] == DEFAULT_JUDGE
    assert pairs["--tensor-parallel-size"] == "4"
    assert pairs["--port"] == "8000"
    assert "--max-model-len" not in words
    assert {"--enable-prefix-caching", "--enable-tokenizer-info-endpoint"} <= set(words)


def test_a_python_that_is_named_must_be_there(fake):
    assert printed("m", python=fake).startswith(fake)
    with pytest.raises(ConfigError, match="no such program"):
        printed("m", python="/nowhere/python")


def test_what_a_checkpoint_is_called(tmp_path, cached):
    assert locate("org/model") == "org/model"
    (tmp_path / "weights").mkdir()
    assert locate(str(tmp_path / "weights")) == str((tmp_path / "weights").resolve())
    assert locate(IDS[1][:8]) == str(cached.root / IDS[1])
    assert locate("a" * 8) == str(cached.root / IDS[0])
    assert locate("f" * 8) == "f" * 8  # could be a repository


def test_a_beginning_of_two_ids(cached):
    cached.get_or_create("a" * 63 + "1", lambda folder, work: {})
    with pytest.raises(ConfigError, match="2 weights_ids"):
        locate("a" * 8)


def test_a_cell_of_a_study(tmp_path, cached):
    folder = study(tmp_path / "s")
    expected = str(cached.root / IDS[0])
    assert locate(folder, cell="m sft learning_rate=0.1 seed=0") == expected
    assert locate(folder, cell="c" * 8) == expected
    assert locate(folder, cell="sft*seed=0") == expected


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (None, "name one of its cells"),
        ("sft", "2 cells"),
        ("nothing", "no cell"),
        ("seed=1", "not in the cache.*keep_weights"),
    ],
)
def test_cells_that_cannot_be_served(tmp_path, cached, cell, message):
    with pytest.raises(ConfigError, match=message):
        locate(study(tmp_path / "s"), cell=cell)


def test_a_cell_of_what_is_no_study(tmp_path):
    with pytest.raises(ConfigError, match=r"no study\.json"):
        locate(str(tmp_path), cell="x")


def test_it_stays_until_ctrl_c(fake):
    said = []

    def press(text):
        said.append(text)
        if "is served at" in text:
            url = text.split(" is served at ")[1].split(";")[0]
            said.append(urllib.request.urlopen(url.removesuffix("/v1") + "/health", timeout=10).status)
            threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()

    port = serving._free_port()
    run("some/model", port=port, python=fake, say=press, start_timeout=60)
    assert f"--port {port}" in said[0]
    assert said[-2] == 200
    assert said[-1] == "ended"
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)


def test_a_server_that_ends_by_itself(fake):
    server = {"port": serving._free_port(), "python": fake, "environment": {"FAKE_MODE": "ends"}, "start_timeout": 60}
    with pytest.raises(ServerError, match=r"(?s)status 3.*here we are"):
        run("some/model", say=lambda _: None, **server)
