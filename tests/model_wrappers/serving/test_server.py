"""The vLLM server's command line and process; what stands in for vLLM here is a script with its command line."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from model_wrappers.errors import ConfigError, ServerError
from model_wrappers.serving import server as serving
from model_wrappers.serving.server import VllmServer, command, vllm_python

FAKE = """\
#!{python}
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
mode = os.environ.get("FAKE_MODE", "")
print("fake vLLM says hello", flush=True)
if mode == "die":
    print("RuntimeError: no weights for you", flush=True)
    sys.exit(7)
if mode == "taken" and not os.path.exists(os.environ["FAKE_MARK"]):
    open(os.environ["FAKE_MARK"], "w").close()
    print("OSError: [Errno 98] address already in use", flush=True)
    sys.exit(1)
if mode == "hang":
    time.sleep(600)
# a worker that does not listen to SIGTERM
worker = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({{"argv": sys.argv[1:], "pids": [os.getpid(), worker.pid], "env": dict(os.environ)}}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def fake(tmp_path):
    path = tmp_path / "python"
    path.write_text(FAKE.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


def described(server):
    import json

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.load(opener.open(f"{server.url}/models", timeout=10))


def alive(pid):
    """Whether a process runs; one that has ended but that nobody has waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def gone(pids, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_the_command():
    assert command("some/model", port=8000, python="py") == [
        *("py", "-m", "vllm.entrypoints.openai.api_server", "--model", "some/model"),
        *("--host", "127.0.0.1", "--port", "8000", "--dtype", "auto"),
        *("--enable-prefix-caching", "--enable-tokenizer-info-endpoint"),
    ]
    line = command(
        "m", port=1, python="py", gpus=4, max_model_len=512, revision="r", dtype="float32", extra=["--x", "1"]
    )
    pairs = dict(itertools.pairwise(line))
    assert pairs["--tensor-parallel-size"] == "4"
    assert pairs["--max-model-len"] == "512"
    assert pairs["--revision"] == "r"
    assert line[-2:] == ["--x", "1"]


@pytest.mark.parametrize("wrong", [{"gpus": 0}, {"max_model_len": 0}])
def test_numbers_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        command("m", port=1, python="py", **wrong)


def test_which_python(monkeypatch, fake):
    monkeypatch.setenv(serving.PYTHON_VARIABLE, fake)
    assert vllm_python() == fake
    assert vllm_python(sys.executable) == sys.executable
    with pytest.raises(ConfigError, match="no such program"):
        vllm_python("/nowhere/python")
    monkeypatch.delenv(serving.PYTHON_VARIABLE)
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=serving.PYTHON_VARIABLE):
        vllm_python()


def test_it_serves_and_takes_everything_with_it_at_the_end(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    log = tmp_path / "deep" / "vllm.log"
    with VllmServer("m", python=fake, max_model_len=64, environment={"OURS": "1"}, log=log) as server:
        found = described(server)
        assert server.alive()
        assert found["argv"] == server.command()[1:]
        assert {"WORLD_SIZE", "PYTHONPATH"}.isdisjoint(found["env"])
        assert found["env"]["OURS"] == "1"
        assert found["env"]["PATH"].startswith(str(Path(fake).parent))
        assert all(alive(pid) for pid in found["pids"])
    assert not server.alive()
    assert gone(found["pids"])
    assert "fake vLLM says hello" in log.read_text()


def test_a_log_of_its_own_is_removed(fake):
    with VllmServer("m", python=fake) as server:
        assert server.log.is_file()
    assert not server.log.exists()


def test_a_server_that_dies_is_noticed_at_once_with_its_last_words(fake, tmp_path):
    started = time.monotonic()
    server = VllmServer("m", python=fake, environment={"FAKE_MODE": "die"}, log=tmp_path / "log")
    with pytest.raises(ServerError, match=r"(?s)status 7.*no weights for you"), server:
        pytest.fail("served")
    assert time.monotonic() - started < 30
    assert not server.alive()


def test_a_server_that_does_not_answer_is_given_up_and_ended(fake, tmp_path):
    server = VllmServer("m", python=fake, environment={"FAKE_MODE": "hang"}, log=tmp_path / "log", start_timeout=1.0)
    with pytest.raises(ServerError, match="within 1 s"), server:
        pytest.fail("served")
    assert not server.alive()


def test_a_port_that_somebody_took_meanwhile_is_replaced(fake, tmp_path):
    environment = {"FAKE_MODE": "taken", "FAKE_MARK": str(tmp_path / "mark")}
    with VllmServer("m", python=fake, environment=environment, log=tmp_path / "log") as server:
        assert described(server)["argv"]


def test_a_port_that_was_asked_for_is_not(fake, tmp_path):
    environment = {"FAKE_MODE": "taken", "FAKE_MARK": str(tmp_path / "mark")}
    server = VllmServer("m", python=fake, environment=environment, log=tmp_path / "log", port=serving._free_port())
    with pytest.raises(ServerError, match="already in use"), server:
        pytest.fail("served")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_does_not_outlive_us(fake, number):
    code = (
        "import sys, json, time, urllib.request\n"
        "from model_wrappers.serving.server import VllmServer\n"
        f"with VllmServer('m', python={fake!r}) as s:\n"
        "    print(urllib.request.urlopen(s.url + '/models').read().decode(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    import json

    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        pids = json.loads(process.stdout.readline())["pids"]
        assert all(alive(pid) for pid in pids)
        os.kill(process.pid, number)
        process.wait(20)
        assert gone(pids)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
