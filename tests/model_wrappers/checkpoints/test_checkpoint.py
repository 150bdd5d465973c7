from __future__ import annotations

import hashlib
import importlib
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model_wrappers.cache import cache_root
from model_wrappers.checkpoints import fingerprints
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.checkpoints.families import family_of, tokens_in_name
from model_wrappers.checkpoints.load_errors import load_error
from model_wrappers.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests are no package: helpers lie beside conftest.py
loopback_hub = importlib.import_module("loopback_hub")

INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})


def folder(path: Path, files: dict[str, bytes | str]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def model_folder(path: Path, weights: bytes = b"weights", more: dict[str, bytes | str] | None = None) -> Path:
    return folder(path, {"config.json": "{}", "model.safetensors": weights} | (more or {}))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("repo", "revision", "tokens"),
    [
        ("allenai/OLMo-1B-hf", "step738000-tokens3094B", 3_094_000_000_000),
        ("allenai/OLMo-2-1124-7B", "stage1-step19000-tokens80B", 80_000_000_000),
        ("allenai/OLMo-2-1124-7B", "step928646-tokens3896B", 3_896_000_000_000),
        ("allenai/OLMo-2-1124-7B", "stage2-ingredient1-step11931-tokens50B", None),  # counted from stage 2's start
        ("org/model", "step10-tokens1.5T", 1_500_000_000_000),
        ("org/model", "tokens250K", 250_000),
        ("org/model", "tokens0.25M", 250_000),
        ("org/model", "tokens-16000000", 16_000_000),
        ("org/model", "tokens1.5", None),
        ("org/model", "tokens3094Bx", None),
        ("org/model", "mytokens3B", None),
        ("org/model", "main", None),
        ("org/model", "step1000", None),
        ("EleutherAI/pythia-2.8b", "step0", 0),
        ("EleutherAI/pythia-2.8b", "step1000", 2_097_152_000),
        ("EleutherAI/pythia-160m-deduped", "step143000", 299_892_736_000),
        ("EleutherAI/pythia-160m", "step144000", None),
        ("EleutherAI/pythia-intervention-70m-deduped", "step1000", None),
        ("LLM360/Amber", "ckpt_000", 3_497_593_824),
        ("LLM360/Amber", "ckpt_040", 143_401_346_784),
        ("LLM360/Amber", "ckpt_359", 1_259_133_776_640),  # the card's total: 1,259.13B
        ("LLM360/Amber", "ckpt_410", None),
        ("LLM360/AmberChat", "ckpt_040", None),
    ],
)
def test_tokens_from_names_and_tables(repo: str, revision: str, tokens: int | None) -> None:
    assert Checkpoint(repo=repo, revision=revision).tokens_seen() == tokens


def test_given_tokens_win() -> None:
    assert Checkpoint(repo="a/b", revision="tokens3B", tokens="7").tokens_seen() == 7
    assert Checkpoint(repo="a/b", tokens=2.0e9).tokens_seen() == 2_000_000_000


def test_tokens_of_a_folder(tmp_path: Path) -> None:
    named = model_folder(tmp_path / "step5-tokens20M")
    assert Checkpoint(repo=named).tokens_seen() == 20_000_000
    assert Checkpoint(repo=model_folder(tmp_path / "plain"), revision="tokens3B").tokens_seen() is None
    (named / "overtrain.json").write_text('{"tokens": 19999744}')
    assert Checkpoint(repo=named).tokens_seen() == 19_999_744
    for wrong in ('{"tokens": "20M"}', "{", "[]", '{"tokens": true}', '{"tokens": -1}'):
        (named / "overtrain.json").write_text(wrong)
        with pytest.raises(CheckpointError, match=r"overtrain\.json must be"):
            Checkpoint(repo=named).tokens_seen()


def test_a_family_is_its_publisher_s() -> None:
    assert family_of("allenai/olmo-1b-hf").name == "olmo"
    assert family_of("someone/OLMo-1B-hf") is None
    assert tokens_in_name("ckpt_040") is None


# ---- fields --------------------------------------------------------------------------------------------------------


def test_fields_are_coerced() -> None:
    checkpoint = Checkpoint(repo="a/b", revision=1000, subfolder="/x/")
    assert (checkpoint.revision, checkpoint.subfolder) == ("1000", "x")
    assert checkpoint.load_kwargs() == {"revision": "1000", "subfolder": "x"}
    assert Checkpoint(repo="a/b", revision=None).revision == "main"
    assert hash(checkpoint) == hash(Checkpoint(repo="a/b", revision="1000", subfolder="x"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": 0},
        {"tokens": -5},
        {"tokens": "many"},
        {"tokens": 1.5},
        {"subfolder": "../x"},
        {"revision": " "},
        {"repo": ""},
    ],
)
def test_wrong_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)).replace("repo", "pretrained")):
        Checkpoint(**{"repo": "a/b"} | wrong)


# ---- folders -------------------------------------------------------------------------------------------------------


def test_what_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    model_folder(tmp_path / "org" / "model")
    for repo in ("org/model", "./org/model", "~/org/model", tmp_path / "org/model", Path("org/model")):
        checkpoint = Checkpoint(repo=repo)
        assert checkpoint.is_local
        assert Path(checkpoint.location()).samefile(tmp_path / "org/model")
        assert checkpoint.load_kwargs() == {}
        assert checkpoint.sha() is None
    assert not Checkpoint(repo="org/other").is_local
    for repo in (
        "./org/other",
        "../other",
        "/nowhere/x",
        "~/other",
        "~nobody-here/x",
        Path("org/other"),
        "./org/model/config.json",
    ):
        with pytest.raises(CheckpointError, match="give the folder that holds"):
            _ = Checkpoint(repo=repo).is_local


def test_weights_are_those_that_transformers_loads(tmp_path: Path) -> None:
    path = model_folder(
        tmp_path,
        b"safe",
        {
            "pytorch_model.bin": b"pickle",
            "optimizer.pt": b"o",
            "training_args.bin": b"t",
            "adapter_model.safetensors": b"a",
            "consolidated.safetensors": b"c",
            "model.safetensors.index.json": INDEX,
        },
    )
    assert Checkpoint(repo=path).weight_hashes() == {"model.safetensors": digest(b"safe")}
    (path / "model.safetensors").unlink()
    folder(
        path,
        {
            "model-00001-of-00002.safetensors": b"1",
            "model-00002-of-00002.safetensors": b"2",
            "model-9.safetensors": b"9",
        },
    )
    assert Checkpoint(repo=path).weight_hashes() == {
        "model-00001-of-00002.safetensors": digest(b"1"),
        "model-00002-of-00002.safetensors": digest(b"2"),
    }
    (path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of the 2 weight files .*: model-00002-of-00002"):
        Checkpoint(repo=path).weight_hashes()
    (path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not an index of weight files"):
        Checkpoint(repo=path).verify()
    (path / "model.safetensors.index.json").unlink()
    assert Checkpoint(repo=path).weight_hashes() == {"pytorch_model.bin": digest(b"pickle")}
    assert Checkpoint(repo=path).weight_paths() == [path / "pytorch_model.bin"]


def test_verify_says_what_a_folder_lacks(tmp_path: Path) -> None:
    Checkpoint(repo=model_folder(tmp_path / "whole")).verify()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        Checkpoint(repo=folder(tmp_path / "bare", {"model.safetensors": b"w"})).verify()
    with pytest.raises(CheckpointError, match=r"weights there: flax_model\.msgpack, tf_model\.h5.*save_pretrained"):
        Checkpoint(
            repo=folder(tmp_path / "tf", {"config.json": "{}", "tf_model.h5": b"", "flax_model.msgpack": b""})
        ).verify()
    with pytest.raises(CheckpointError, match="merge it into its base model"):
        Checkpoint(repo=folder(tmp_path / "lora", {"config.json": "{}", "adapter_model.safetensors": b""})).verify()
    with pytest.raises(CheckpointError, match="subfolder='x': there is no such folder"):
        Checkpoint(repo=tmp_path / "whole", subfolder="x").verify()
    pointer = model_folder(tmp_path / "pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        Checkpoint(repo=pointer).verify()


def test_subfolder_and_side_files(tmp_path: Path) -> None:
    model_folder(tmp_path / "step10", b"inner", {"init_std.json": "{}"})
    checkpoint = Checkpoint(repo=tmp_path, subfolder="step10")
    assert checkpoint.weight_hashes() == {"model.safetensors": digest(b"inner")}
    assert checkpoint.load_kwargs() == {"subfolder": "step10"}
    assert checkpoint.side_file("init_std.json") == tmp_path / "step10" / "init_std.json"
    assert checkpoint.side_file("nothing.json") is None


def test_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    shards = {"config.json": "{}", "model.safetensors.index.json": INDEX}
    one = folder(
        tmp_path / "1", shards | {"model-00001-of-00002.safetensors": b"1", "model-00002-of-00002.safetensors": b"2"}
    )
    two = folder(
        tmp_path / "2", shards | {"model-00001-of-00002.safetensors": b"2", "model-00002-of-00002.safetensors": b"1"}
    )
    other = folder(
        tmp_path / "3", shards | {"model-00001-of-00002.safetensors": b"2", "model-00002-of-00002.safetensors": b"3"}
    )
    expected = digest(json.dumps(sorted([digest(b"1"), digest(b"2")]), separators=(",", ":")).encode())
    assert Checkpoint(repo=one).fingerprint() == expected
    a, b, c = (Checkpoint(repo=p, tokens=n) for n, p in enumerate((one, two, other), start=1))
    assert a.fingerprint() == b.fingerprint() != c.fingerprint()
    assert a.describe() == {
        "repo": str(one),
        "revision": None,
        "sha": None,
        "subfolder": "",
        "tokens": 1,
        "fingerprint": expected,
    }


# ---- the memory of local hashes --------------------------------------------------------------------------------------


def test_a_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    path = model_folder(tmp_path / "m", b"first!") / "model.safetensors"
    read: list[str] = []
    real = hashlib.file_digest
    monkeypatch.setattr(fingerprints.hashlib, "file_digest", lambda f, name: read.append(f.name) or real(f, name))
    checkpoint = Checkpoint(repo=path.parent)
    assert checkpoint.weight_hashes() == checkpoint.weight_hashes() == {"model.safetensors": digest(b"first!")}
    assert read == [str(path)]
    assert (own_cache / "fingerprints.json").is_file()
    status = path.stat()
    path.write_bytes(b"second")  # same size; with the old time of change it cannot be told from the first
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert checkpoint.weight_hashes() == {"model.safetensors": digest(b"first!")}
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert checkpoint.weight_hashes() == {"model.safetensors": digest(b"second")}
    assert len(read) == 2


@pytest.mark.parametrize(
    "corrupt", ["", "{", "[1]", '{"PATH": 3}', '{"PATH": {"size": 1, "mtime_ns": 2, "sha256": 5}}', "\x00\xff"]
)
def test_a_corrupt_memory_is_rebuilt(tmp_path: Path, own_cache: Path, corrupt: str) -> None:
    path = model_folder(tmp_path / "m", b"w") / "model.safetensors"
    (own_cache / "fingerprints.json").write_text(corrupt.replace("PATH", str(path)), encoding="latin-1")
    assert Checkpoint(repo=path.parent).weight_hashes() == {"model.safetensors": digest(b"w")}
    assert json.loads((own_cache / "fingerprints.json").read_text())[str(path)]["sha256"] == digest(b"w")


def test_an_entry_with_a_false_hash_format_is_not_believed(tmp_path: Path, own_cache: Path) -> None:
    path = model_folder(tmp_path / "m", b"w") / "model.safetensors"
    state = {"size": 1, "mtime_ns": path.stat().st_mtime_ns, "sha256": "not a hash"}
    (own_cache / "fingerprints.json").write_text(json.dumps({str(path): state}))
    assert Checkpoint(repo=path.parent).weight_hashes() == {"model.safetensors": digest(b"w")}


def test_entries_made_at_once_are_all_kept(tmp_path: Path, own_cache: Path) -> None:
    paths = [folder(tmp_path / str(n), {"f": str(n).encode()}) / "f" for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda p: fingerprints.sha256_of(p, own_cache / "fingerprints.json"), paths))
    assert found == [digest(str(n).encode()) for n in range(24)]
    assert set(json.loads((own_cache / "fingerprints.json").read_text())) == {str(p) for p in paths}
    assert not list(own_cache.glob(".fingerprints*"))


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTRAIN_CACHE", str(folder(tmp_path, {"f": b""}) / "f"))  # a file where a folder should be
    assert Checkpoint(repo=model_folder(tmp_path / "m", b"w")).weight_hashes() == {"model.safetensors": digest(b"w")}


def test_cache_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTRAIN_CACHE", "/x/y")
    assert cache_root() == Path("/x/y")
    monkeypatch.delenv("OVERTRAIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/z")
    assert cache_root() == Path("/z/lm-eval-overtrain")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert cache_root() == Path("/h/.cache/lm-eval-overtrain")


# ---- loading -------------------------------------------------------------------------------------------------------


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("how", ["torch.save", "plain pickle"])
def test_a_malicious_pickle_is_refused_unrun(tmp_path: Path, make_model: Any, how: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    bad = folder(tmp_path / "bad", {"config.json": (make_model() / "config.json").read_bytes()})
    witness = tmp_path / "was-run"
    content = {"model.embed_tokens.weight": Malicious(witness)}
    if how == "torch.save":
        torch.save(content, bad / "pytorch_model.bin")
    else:
        (bad / "pytorch_model.bin").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(pickle.UnpicklingError) as caught:
        AutoModelForCausalLM.from_pretrained(bad)
    assert not witness.exists()
    readable = load_error(caught.value, Checkpoint(repo=bad))
    assert "nothing in them was run" in str(readable)
    assert "weights_only" not in str(readable)  # torch's own text recommends to switch it off
    pickle.loads(pickle.dumps(content))  # the same content does run where it is unpickled plainly
    assert witness.exists()


def test_damaged_safetensors_are_named(tmp_path: Path, make_model: Any) -> None:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    bad = model_folder(tmp_path, b"\xff" * 100, {"config.json": (make_model() / "config.json").read_bytes()})
    with pytest.raises(SafetensorError) as caught:
        AutoModelForCausalLM.from_pretrained(bad)
    assert "are damaged" in str(load_error(caught.value, Checkpoint(repo=bad)))


# ---- the hub, in processes of their own: its address is read when huggingface_hub is imported ----------------------

PRELUDE = """
import json
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.errors import CheckpointError

def message(call):
    try:
        call()
    except CheckpointError as error:
        return str(error)

def show(value):
    print(json.dumps(value, default=str))
"""
SAFE = os.urandom(1000)
LATER = os.urandom(1000)
BIG = os.urandom(25_000_000)  # the client keeps what it has received in blocks of 10 MB


def ask(hub: Any, cache: Path, code: str, **env: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        env=os.environ | hub.env(cache, **env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def hub() -> Iterator[Any]:
    with loopback_hub.LoopbackHub() as server:
        config = {"config.json": b"{}"}
        server.add(
            "org/model",
            {
                "main": config
                | {
                    "model.safetensors": LATER,
                    "init_std.json": b'{"std": {}}',
                    "in/config.json": b"{}",
                    "in/model.safetensors": SAFE,
                },
                "stage1-step1000-tokens1B": config | {"model.safetensors": SAFE},
                "stage1-step2000-tokens2B": config | {"model.safetensors": LATER},
                "stage1-step3000-tokens3B": {"README.md": b"same weights"} | config | {"model.safetensors": LATER},
                "big": config | {"model.safetensors": BIG},
                "h5": config | {"tf_model.h5": SAFE},
                "bare": {"model.safetensors": SAFE},
                "sharded": config
                | {
                    "model.safetensors.index.json": INDEX.encode(),
                    "model-00001-of-00002.safetensors": SAFE,
                    "model-00002-of-00002.safetensors": LATER,
                    "pytorch_model.bin": b"old",
                },
            },
        )
        server.add("org/gated", {"main": config}, gated=True)
        yield server


def test_hub_answers_without_downloading_weights(hub: Any, tmp_path: Path) -> None:
    code = """
c = [Checkpoint(repo="org/model", revision=r) for r in
     ("stage1-step1000-tokens1B", "stage1-step2000-tokens2B", "stage1-step3000-tokens3B", "main")]
main = c[-1]
for x in c: x.verify()
show({
  "describe": c[0].describe(), "shas": [x.sha() for x in c],
  "hashes": main.weight_hashes(),
  "fingerprints": [x.fingerprint() for x in c],
  "side": main.side_file("init_std.json").read_text(), "no_side": main.side_file("other.json"),
  "inner": Checkpoint(repo="org/model", subfolder="in").weight_hashes(),
  "sharded": Checkpoint(repo="org/model", revision="sharded").weight_hashes(),
})
"""
    found = ask(hub, tmp_path, code)
    commits = hub.repos["org/model"].commits
    assert found["describe"] == {
        "repo": "org/model",
        "revision": "stage1-step1000-tokens1B",
        "sha": commits["stage1-step1000-tokens1B"],
        "subfolder": "",
        "tokens": 1_000_000_000,
        "fingerprint": digest(json.dumps([digest(SAFE)]).encode()),
    }
    assert found["shas"][-1] == commits["main"]
    assert found["hashes"] == {"model.safetensors": digest(LATER)}
    assert found["inner"] == {"model.safetensors": digest(SAFE)}
    assert found["sharded"] == {
        "model-00001-of-00002.safetensors": digest(SAFE),
        "model-00002-of-00002.safetensors": digest(LATER),
    }
    first, second, third, last = found["fingerprints"]
    assert first != second == third == last
    assert found["side"] == '{"std": {}}'
    assert found["no_side"] is None
    assert not [r for r in hub.requests if "/lfs/" in r.path]
    described = [r for r in hub.requests if "/revision/main" in r.path]
    assert len(described) == 1  # one question per revision and process, however often it is asked


def test_hub_errors_say_what_to_do(hub: Any, tmp_path: Path) -> None:
    code = """
show({name: message(Checkpoint(**fields).verify) for name, fields in {
  "revision": {"repo": "org/model", "revision": "step2000-tokens2B"},
  "repo": {"repo": "org/modle"},
  "gated": {"repo": "org/gated"},
  "name": {"repo": "runs/a/b"},
  "subfolder": {"repo": "org/model", "subfolder": "out"},
  "h5": {"repo": "org/model", "revision": "h5"},
  "bare": {"repo": "org/model", "revision": "bare"},
  "fine": {"repo": "org/model", "subfolder": "in"},
}.items()})
"""
    found = ask(hub, tmp_path, code)
    start = "'org/model' has no revision 'step2000-tokens2B'; the closest of its 8 branches and tags: "
    assert found["revision"].startswith(start + "stage1-step2000-tokens2B, stage1-step")
    assert found["revision"].count("stage1-step") == 3
    assert found["revision"].count(", ") == 4  # five names
    assert "'org/modle' was not found" in found["repo"]
    assert "local folder, e.g. ./modle" in found["repo"]
    assert "is gated; accept its terms" in found["gated"]
    assert "'runs/a/b' is neither a folder nor a repository name" in found["name"]
    assert "subfolder='out': there is no such folder" in found["subfolder"]
    assert "weights there: tf_model.h5" in found["h5"]
    assert "no config.json (there: model.safetensors)" in found["bare"]
    assert found["fine"] is None


def test_a_cut_download_goes_on_and_the_cache_serves_offline(hub: Any, tmp_path: Path) -> None:
    hub.cut_once(BIG, 15_000_000)
    big = 'c = Checkpoint(repo="org/model", revision="big")\n'
    online = (
        'import hashlib; c.side_file("config.json"); show(hashlib.sha256(c.weight_paths()[0].read_bytes()).hexdigest())'
    )
    assert ask(hub, tmp_path, big + online) == digest(BIG)
    first, second = hub.gets(BIG)
    assert first.range is None
    assert second.range == f"bytes={10 * 1024 * 1024}-"
    asked = len(hub.requests)
    offline = """
c.verify()
show([c.fingerprint(), c.sha(), c.side_file("init_std.json"), message(Checkpoint(repo="org/model").fingerprint)])
"""
    fingerprint = digest(json.dumps([digest(BIG)]).encode())
    for env in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):  # port 9: nobody answers
        *known, unknown = ask(hub, tmp_path, big + offline, **env)
        assert known == [fingerprint, hub.repos["org/model"].commits["big"], None]
        assert "revision 'main' is not in the local cache" in unknown
        assert "hf download org/model --revision main" in unknown
    assert len(hub.requests) == asked


def test_offline_a_half_downloaded_revision_has_no_fingerprint(hub: Any, tmp_path: Path) -> None:
    sharded = 'c = Checkpoint(repo="org/model", revision="sharded")\n'
    ask(hub, tmp_path, sharded + 'c._file("model-00001-of-00002.safetensors"); show(c.weight_hashes())')
    found = ask(hub, tmp_path, sharded + "show(message(c.fingerprint))", HF_HUB_OFFLINE="1")
    assert "lacks 1 of the 2 weight files" in found
    assert "hf download org/model --revision sharded" in found


def test_small_weights_outside_lfs_are_hashed_from_their_content(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopback_hub, "LFS_SUFFIXES", (".h5",))
    found = ask(hub, tmp_path, 'show(Checkpoint(repo="org/model").weight_hashes())')
    assert found == {"model.safetensors": digest(LATER)}


def test_transformers_loads_what_location_and_load_kwargs_say(hub: Any, tmp_path: Path, make_model: Any) -> None:
    files = loopback_hub.read_folder(make_model("llama"))
    hub.add("org/tiny", {"main": {"README.md": b""}, "step5": {f"in/{name}": data for name, data in files.items()}})
    code = """
from transformers import AutoModelForCausalLM
c = Checkpoint(repo="org/tiny", revision="step5", subfolder="in")
model = AutoModelForCausalLM.from_pretrained(c.location(), **c.load_kwargs())
show([type(model).__name__, c.weight_hashes()])
"""
    assert ask(hub, tmp_path, code) == ["LlamaForCausalLM", {"model.safetensors": digest(files["model.safetensors"])}]
