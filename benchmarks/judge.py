"""``python -m benchmarks.judge``: the time of the judge's client, compared with alpaca_eval's on the same server.

A server in a separate process answers at once, so only the clients are measured. alpaca_eval 0.6.6 judges 805 pairs in one
order with the evaluator ``weighted_alpaca_eval_vllm_llama3_70b``, in its own environment (``--alpaca-python``; by default,
one is made). Our client judges 805 pairs in both orders, and also reads the answers, stores preferences and computes win
rates. Imports are not counted for either side. Then the memory of our client is measured for one cell and for twenty cells,
each in a new process. Exits with 1 if our client takes more than a tenth of the time or its memory grows. Writes
``benchmarks/results/judge.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "judge.json"
PAIRS = 805
RATIO = 10.0  # demanded: alpaca_eval's time over ours
GROWTH_MB = 32.0  # allowed: 20 cells over one
MODEL = "judge"  # the server answers to any name
PACKAGES = ("alpaca_eval==0.6.6", "setuptools<82")

SERVER = """
import json, sys
from aiohttp import web
top = [{"token": "m", "bytes": [109], "logprob": -0.5}, {"token": "M", "bytes": [77], "logprob": -1.0}]
choice = {
    "index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "m"},
    "logprobs": {"content": [{**top[0], "top_logprobs": top}], "refusal": None},
}
usage = {"prompt_tokens": 900, "completion_tokens": 1, "total_tokens": 901}
chat = {"id": "x", "object": "chat.completion", "created": 0, "model": sys.argv[1], "choices": [choice], "usage": usage}
models = {"object": "list", "data": [{"id": sys.argv[1], "object": "model"}]}
answers = {"/v1/models": json.dumps(models).encode(), "/v1/chat/completions": json.dumps(chat).encode()}
async def reply(request):
    await request.read()
    body = answers.get(request.path)
    return web.Response(body=body, content_type="application/json") if body else web.Response(status=404)
app = web.Application(client_max_size=2**26)
app.router.add_route("*", "/{path:.*}", reply)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=lambda *_: print("up", flush=True), access_log=None)
"""

PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from alpaca_eval.annotators import PairwiseAnnotator
answers, reference, config = sys.argv[1:]
annotator = PairwiseAnnotator(annotators_config=config)
rows = [json.load(open(path)) for path in (reference, answers)]
started = time.perf_counter()
found = annotator.annotate_head2head(outputs_1=rows[0], outputs_2=rows[1])
seconds = time.perf_counter() - started
print(json.dumps([seconds, len(found), sum(row["preference"] is not None for row in found)]))
"""

OURS = """
import json, sys, time
import aiohttp, pandas, pyarrow.parquet, rich.progress  # imports are not counted, as they are not for the peer
from io import StringIO
from pathlib import Path
from rich.console import Console
from overtrain.judging.judge import judge
started = time.perf_counter()
done = judge(sys.argv[1], url=sys.argv[2], model=sys.argv[3], template_file=Path(sys.argv[4]), console=Console(file=StringIO()))
seconds = time.perf_counter() - started
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(json.dumps([seconds, done.asked, done.missing, peak]))
"""


def main() -> int:
    """Measure, print and say whether the limits hold."""
    parser = argparse.ArgumentParser(description="The judge's client beside alpaca_eval's, on one instant server.")
    parser.add_argument("--alpaca-python", type=Path, help="Python of an environment with alpaca_eval 0.6.6")
    parser.add_argument("--cells", type=int, default=20, help="cells of the larger study, for the memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        python = options.alpaca_python or _environment(folder / "environment")
        config, template = _evaluator(python, folder / "evaluators")
        studies = {cells: _study(folder / f"study-{cells}", cells) for cells in (1, options.cells)}
        server, url = _server()
        try:
            _ours(_study(folder / "warm", 1, pairs=20), url, template)  # bytecode and file caches
            peer = _peer(python, config, url, folder)
            ours = {cells: _ours(root, url, template) for cells, root in studies.items()}
        finally:
            server.terminate()
            server.wait()
    found = _found(peer, ours)
    print(json.dumps(found, indent=1))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if found["ratio"] >= RATIO and found["memory_growth_mb"] <= GROWTH_MB else 1


def _found(peer: list[float], ours: dict[int, list[float]]) -> dict[str, Any]:
    small, large = (ours[cells] for cells in sorted(ours))
    assert peer[1:] == [PAIRS, PAIRS], f"alpaca_eval judged {peer[1:]} of {PAIRS} pairs"
    for cells, (_, asked, missing, _) in ours.items():
        assert (asked, missing) == (2 * PAIRS * cells, 0), f"ours asked {asked} questions, {missing} items missing"
    return {
        "cpus": os.cpu_count(),
        "alpaca_eval": {"questions": PAIRS, "seconds": round(peer[0], 2)},
        "ours": {"questions": int(small[1]), "seconds": round(small[0], 2), "peak_mb": round(small[3], 1)},
        "ours_more_cells": {"questions": int(large[1]), "seconds": round(large[0], 2), "peak_mb": round(large[3], 1)},
        "ratio": round(peer[0] / small[0], 1),
        "ratio_demanded": RATIO,
        "memory_growth_mb": round(large[3] - small[3], 1),
        "memory_growth_allowed_mb": GROWTH_MB,
    }


def _environment(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def _evaluator(python: Path, folder: Path) -> tuple[Path, Path]:
    """Copy the peer's evaluator and template, so that the cache that it writes beside them is ours to delete."""
    import shutil

    code = "import importlib.util as u; print(u.find_spec('alpaca_eval').submodule_search_locations[0])"
    package = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    for name in ("weighted_alpaca_eval_vllm_llama3_70b", "alpaca_eval_clf_gpt4_turbo"):
        shutil.copytree(package / "evaluators_configs" / name, folder / name)
    template = folder / "alpaca_eval_clf_gpt4_turbo" / "alpaca_eval_clf.txt"
    return folder / "weighted_alpaca_eval_vllm_llama3_70b", template


def _server() -> tuple[subprocess.Popen[str], str]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", SERVER, MODEL, str(port)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline().strip() == "up", "the server did not start"
    return server, f"http://127.0.0.1:{port}/v1"


def _texts(seed: int, pairs: int) -> list[str]:
    """Return made-up answers of about the length of AlpacaEval's: 200 to 3,000 characters."""
    chance = random.Random(seed)
    words = [
        "answer",
        "tips",
        "because",
        "model",
        "write",
        "the",
        "of",
        "a",
        "with",
        "example",
        "list",
        "first",
        "then",
    ]
    return [" ".join(chance.choices(words, k=chance.randint(40, 500))) for _ in range(pairs)]


def _instructions(pairs: int) -> list[str]:
    return [f"Instruction {n}: explain this and give an example, in a few sentences." for n in range(pairs)]


def _study(root: Path, count: int, pairs: int = PAIRS) -> Path:
    """Store finished cells with answers, as a sweep would."""
    from model_wrappers.identity import digest
    from overtrain.results.record import CellRecord, StudyRecord, described
    from overtrain.results.store import FILES, Store
    from overtrain.results.study_file import write_study

    root.mkdir()
    cells = []
    for number in range(count + 1):
        identity = {"cell": number}
        rows = zip(_instructions(pairs), _texts(number, pairs), strict=True)
        samples = [
            {
                "doc_id": n,
                "doc": {"instruction": instruction},
                "filtered_resps": [text],
                "filter": "none",
                "metrics": [],
            }
            for n, (instruction, text) in enumerate(rows)
        ]
        files = dict.fromkeys(FILES, b"{}") | {
            "spec.json": json.dumps({"identity": identity}).encode(),
            "samples_overtrain_alpaca_eval.jsonl": b"".join(json.dumps(s).encode() + b"\n" for s in samples),
        }
        Store(root).write(digest(identity), files, "done", started=time.time())
        cells.append(
            CellRecord(
                key=str(number),
                cell_id=digest(identity),
                label=f"cell {number}",
                checkpoint=f"m@{number}",
                family="m",
                run="m",
                tokens=number + 1,
                variant="sft",
                modification="finetune",
                seed=0,
                fields={"learning_rate": 1e-4},
                answers=True,
            )
        )
    write_study(root, described(StudyRecord(name="bench", cells=tuple(cells))))
    return root


def _peer(python: Path, config: Path, url: str, folder: Path) -> list[float]:
    paths = []
    for number, name in enumerate(("answers", "reference")):
        rows = zip(_instructions(PAIRS), _texts(number, PAIRS), strict=True)
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps([{"instruction": i, "output": text, "generator": name} for i, text in rows]))
    environment = os.environ | {"OPENAI_API_BASE": url, "OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1"}
    return _run([str(python), "-c", PEER, *map(str, paths), str(config)], environment)


def _ours(root: Path, url: str, template: Path) -> list[float]:
    return _run([sys.executable, "-c", OURS, str(root), url, MODEL, str(template)], dict(os.environ))


def _run(command: list[str], environment: dict[str, str]) -> list[float]:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return list(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
