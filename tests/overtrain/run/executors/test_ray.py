"""A real Ray cluster of two local nodes."""

from __future__ import annotations

import json
import sys

import pandas as pd
import pytest
from commands import run as command
from overtrain_tiny import tables, write_study

from model_wrappers.errors import ConfigError
from overtrain.run.sweep import run


@pytest.fixture
def study(make_model, tmp_path):
    return write_study(tmp_path, make_model("olmo", seed=0), make_model("olmo", seed=1))


def test_without_ray_the_message_says_what_to_install(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'lm-eval-overtrain\[cluster\]'"):
        run(study, tmp_path / "runs", ray="local", only=["base"])


CLUSTER = """
import json, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from overtrain.run.sweep import run

if __name__ == "__main__":
    study, runs = sys.argv[1], Path(sys.argv[2])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    lost = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")

    def lose():
        while len({json.loads(f.read_text())["pid"] for f in (runs / "tiny").glob("*/status.json")}) < 2:
            time.sleep(0.02)
        cluster.remove_node(lost, allow_graceful=False)
        answer["removed"] = True

    answer = {"removed": False}
    thread = threading.Thread(target=lose)
    thread.start()
    summary = run(study, runs, ray=cluster.address)
    thread.join()
    answer |= {"ran": summary.ran, "done": summary.done, "failed": summary.failed}
    deadline = time.time() + 60  # Ray notices a dead node by its missing heartbeats
    while (alive := sum(node["Alive"] for node in ray.nodes())) > 1 and time.time() < deadline:
        time.sleep(0.2)
    answer["alive"] = alive
    Path(sys.argv[3]).write_text(json.dumps(answer))  # Ray writes to the standard streams as it likes
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.cluster
def test_ray_with_two_nodes_one_of_which_is_lost(study, tmp_path):
    pytest.importorskip("ray")
    study.write_text(study.read_text().replace("seeds: [0, 1]", f"seeds: {list(range(12))}"))
    run(study, tmp_path / "here")
    (tmp_path / "cluster.py").write_text(CLUSTER)
    done = command(
        sys.executable, tmp_path / "cluster.py", study, tmp_path / "ray", tmp_path / "answer.json", timeout=280,
        OVERTRAIN_CACHE=str(tmp_path / "cache-ray"), RAY_DISABLE_IMPORT_WARNING="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["removed"]
    assert (answer["done"], answer["failed"], answer["alive"]) == (50, [], 1)
    assert answer["ran"] >= 49  # a cell that was done when its node was lost is found, not repeated
    here, there = (tables(tmp_path / name / "tiny") for name in ("here", "ray"))
    pd.testing.assert_frame_equal(here[0], there[0], rtol=1e-5)
    workers = {json.loads(f.read_text())["pid"] for f in (tmp_path / "ray" / "tiny").glob("*/status.json")}
    assert len(workers) >= 2
