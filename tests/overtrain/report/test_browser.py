"""The page in Debian's Chromium, headless: everything is drawn, nothing is asked for, nothing runs."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading

import pytest

from overtrain.report.build import build

pytestmark = pytest.mark.browser

HOSTILE = "</title></style><script>document.title='pwned'</script><img src=/asked onerror=document.title='pwned'>"

# Beside the page, from the same origin, so that it can look inside: what a person would see, as JSON.
_PROBE = """<!doctype html><title>probe</title><link rel=icon href="data:,"><body style="margin:0">
<iframe id=f src="report/index.html" style="width:{width}px;height:900px;border:0"></iframe><pre id=out></pre><script>
const frame = document.getElementById('f');
frame.onload = () => {{
  const page = frame.contentDocument;
  const images = [...page.querySelectorAll('figure img')].map(i => ({{
    natural: i.naturalWidth * i.naturalHeight, shown: i.getBoundingClientRect().width * i.getBoundingClientRect().height}}));
  const style = frame.contentWindow.getComputedStyle(page.body);
  document.getElementById('out').textContent = JSON.stringify({{
    images, title: page.title, scripts: page.scripts.length, headline: page.querySelector('.verdict').innerText,
    background: style.backgroundColor, color: style.color, sideways: page.documentElement.scrollWidth - frame.clientWidth,
    sections: [...page.querySelectorAll('section h2')].map(h => h.innerText)}});
}};
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("CI must have a browser: apt-get install chromium")
    if found is None:
        pytest.skip("no chromium; apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def site(make_study, make_record, tmp_path_factory):
    """A hostile study's report and the probe, served on the loopback; every request is noted."""
    root = tmp_path_factory.mktemp("site")
    frame, documents = make_study("u", name=HOSTILE, tuning=HOSTILE, families=(HOSTILE,))
    build(frame, documents, root / "report", study=make_record(name=HOSTILE, description=HOSTILE), published=True)
    for width in (1200, 390):
        (root / f"probe-{width}.html").write_text(_PROBE.format(width=width))
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def visit(chromium, url, tmp_path, *more):
    """Return the page's document after loading, what the browser logged, and what pages asked for."""
    log = tmp_path / "net.json"
    command = [
        *(
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
        ),
        *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
        *(f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", "--virtual-time-budget=10000"),
        *(
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            *more,
            "--dump-dom",
            url,
        ),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    events = [e.get("params", {}) for e in json.loads(log.read_text("utf-8"))["events"]]
    # The browser's own requests have no origin as their initiator; a page's have.
    ours = {e["url"] for e in events if "url" in e and e.get("initiator", "not an origin") != "not an origin"}
    return done.stdout, done.stderr, ours


def probed(dom):
    import html

    return json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', dom, re.DOTALL)[1]))


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False)])
def test_a_browser_shows_everything_and_asks_for_nothing(chromium, site, tmp_path, width, dark):
    root, address, asked = site
    asked.clear()
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    dom, log, requested = visit(chromium, f"{address}/probe-{width}.html", tmp_path, *scheme)
    seen = probed(dom)
    wanted = len(list((root / "report" / "figures").glob("*.svg")))
    assert wanted >= 12
    assert len(seen["images"]) == wanted
    assert all(i["natural"] > 10_000 and i["shown"] > 10_000 for i in seen["images"])
    assert seen["headline"].startswith("Nats per token on text after </title>")
    assert {"Noise", "Optimal learning rates", "Every cell"} <= set(seen["sections"])
    assert seen["sideways"] <= 0  # tables and figures scroll inside themselves
    assert seen["background"] == ("rgb(22, 24, 27)" if dark else "rgb(255, 255, 255)")
    assert seen["scripts"] == 0
    assert "pwned" not in seen["title"].replace(HOSTILE, "")
    assert asked == [f"/probe-{width}.html", "/report/index.html"]
    assert {url for url in requested if not url.startswith("data:")} == {f"{address}/report/index.html"}
    assert "CONSOLE" not in log


def test_opened_by_itself_it_makes_one_request(chromium, site, tmp_path):
    _, address, asked = site
    asked.clear()
    dom, log, requested = visit(chromium, f"{address}/report/index.html", tmp_path)
    assert asked == ["/report/index.html"]
    assert not [url for url in requested if not url.startswith("data:")]
    assert "CONSOLE" not in log
    assert dom.count("<figure") >= 12


def test_the_policy_would_stop_what_escaping_let_through(chromium, site, tmp_path):
    """The second line of defence: with a script and a request put in by hand, neither happens, and the console says so."""
    root, address, asked = site
    page = (root / "report" / "index.html").read_text("utf-8")
    bad = "<script>document.title = 'pwned'</script><img src='/asked'>"
    (root / "report" / "bad.html").write_text(page.replace("<main>", f"<main>{bad}", 1))
    asked.clear()
    dom, log, _ = visit(chromium, f"{address}/report/bad.html", tmp_path)
    assert "<title>pwned" not in dom
    assert "/asked" not in asked
    assert "Content Security Policy" in log
