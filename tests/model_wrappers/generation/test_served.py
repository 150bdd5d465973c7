"""Generating by a server: the same prompts, to the token, and the same answers."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model_wrappers.compat import instance
from model_wrappers.errors import ConfigError, ServerError
from model_wrappers.generation.prompts import TEMPLATE_KEY, TUNING, Instruction
from model_wrappers.generation.served import sampling
from model_wrappers.lm import FineTunedLM, PerturbedLM, RecipeLM

QUESTIONS = ["Give three tips.", "How do I boil an egg? " * 4, "2 + 2?", "The quick brown fox " * 9]


class Completions:
    """An OpenAI-compatible server that continues greedily with a model of its own; ``asked`` is what came."""

    def __init__(self, folder, *, ids=True, refuse=False):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.asked, self.lock, self.ids, self.refuse = [], threading.Lock(), ids, refuse
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def reply(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self.reply(200, {"version": "0.0", "data": [{"id": "tiny"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.asked.append(body)
                    if outer.refuse and len(outer.asked) > 1:
                        self.reply(400, {"error": {"message": "no"}})
                        return
                    self.reply(200, {"choices": [outer.continued(body)]})

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def continued(self, body):
        ids = torch.tensor([body["prompt"]])
        with torch.no_grad():
            for _ in range(body["max_tokens"]):
                ids = torch.cat([ids, self.model(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
                if ids[0, -1] == self.tokenizer.eos_token_id:
                    break
        made = ids[0, len(body["prompt"]) :].tolist()
        text = self.tokenizer.decode(made, skip_special_tokens=True)
        return {"text": text} | ({"token_ids": made} if self.ids else {})

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def ask(**kwargs):
    given = {"until": [], "max_gen_toks": 12, TEMPLATE_KEY: "plain"} | kwargs
    return [instance("generate_until", (Instruction(q), given), task="t", document=i) for i, q in enumerate(QUESTIONS)]


def test_a_server_with_the_weights_gives_the_same_answers(make_model):
    folder = str(make_model("olmo"))
    here = PerturbedLM(pretrained=folder, gamma=0, device="cpu")
    expected = here.generate_until(ask(), disable_tqdm=True)
    for ids in (True, False):
        with Completions(folder, ids=ids) as server:
            lm = PerturbedLM(pretrained=folder, gamma=0, device="cpu", generate_url=server.url)
            found = lm.generate_until(ask(), disable_tqdm=True)
        # Without token ids the server's text is taken.
        assert found == expected
        assert sorted(b["prompt"] for b in server.asked) == sorted(lm.tok_encode(q) for q in QUESTIONS)
        assert all(
            b["temperature"] == 0 and b["max_tokens"] == 12 and b["stop"] == ["<|endoftext|>"] for b in server.asked
        )
    about = lm.get_model_info()["overtrain"]
    assert about["generation"]["backend"] == "vllm"
    assert about["generation"]["url"] == server.url
    assert about["generation"]["prompts"] == len(QUESTIONS)
    assert about["cell_id"] != here.get_model_info()["overtrain"]["cell_id"]


def test_stops_and_lengths_are_those_of_the_host(make_model):
    folder = str(make_model("olmo", context=40))
    here = PerturbedLM(pretrained=folder, gamma=0, device="cpu")
    with Completions(folder) as server:
        lm = PerturbedLM(pretrained=folder, gamma=0, device="cpu", generate_url=server.url)
        for kwargs in ({"until": ["e", "\n"]}, {"max_gen_toks": 500}):
            assert lm.generate_until(ask(**kwargs), disable_tqdm=True) == here.generate_until(
                ask(**kwargs), disable_tqdm=True
            )
    assert {len(b["prompt"]) + b["max_tokens"] <= 40 for b in server.asked} == {True}
    assert server.asked[0]["stop"] == ["e", "\n", "<|endoftext|>"]


def test_sampling_arguments():
    defaults = {"top_k": 50, "top_p": 1.0, "num_beams": 1, "min_p": None}
    given = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_gen_toks": 5, "until": ["x"]}
    assert sampling(given, defaults, 3) == {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 50,
        "max_tokens": 5,
        "stop": ["x"],
        "seed": 3,
    }
    greedy = given | {"do_sample": False}
    assert sampling(greedy, defaults, 3) == {
        "temperature": 0.0,
        "top_p": 0.9,
        "max_tokens": 5,
        "stop": ["x"],
        "seed": 3,
    }
    with pytest.raises(ConfigError, match="'num_beams'"):
        sampling(given | {"num_beams": 4}, defaults, 3)


def test_each_prompt_is_sampled_with_a_seed_of_its_own(make_model):
    folder = str(make_model("olmo"))
    with Completions(folder) as server:
        lm = PerturbedLM(pretrained=folder, gamma=0, device="cpu", generate_url=server.url)
        lm.generate_until(ask(temperature=0.5, seed=100), disable_tqdm=True)
    assert sorted(b["seed"] for b in server.asked) == [100, 101, 102, 103]
    assert {b["temperature"] for b in server.asked} == {0.5}


def test_an_unanswered_prompt_is_an_error_and_not_an_empty_answer(make_model):
    folder = str(make_model("olmo"))
    with Completions(folder, refuse=True) as server:
        lm = PerturbedLM(pretrained=folder, gamma=0, device="cpu", generate_url=server.url)
        with pytest.raises(ServerError, match=r"3 of 4 prompts without an answer.*HTTP 400: no"):
            lm.generate_until(ask(), disable_tqdm=True)


def test_no_server(make_model):
    lm = PerturbedLM(pretrained=str(make_model("olmo")), gamma=0, device="cpu", generate_url="http://127.0.0.1:9/v1")
    with pytest.raises(ServerError, match="no model server answers"):
        lm.generate_until(ask(), disable_tqdm=True)


@pytest.fixture(scope="module")
def servable(tmp_path_factory, tokenizer):
    """A tiny Llama that vLLM's CPU build takes: heads of 32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        for p in model.parameters():
            if p.dim() > 1:
                torch.nn.init.normal_(p, std=0.3)
    folder = tmp_path_factory.mktemp("llama")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.vllm
@pytest.mark.timeout(600)
@pytest.mark.parametrize("in_memory", [False, True])
def test_vllm_serves_what_was_tuned(servable, tmp_path, monkeypatch, in_memory):
    """Tuned weights from the cache, or with noise on top from a temporary folder: nearly all answers are the host's."""
    if not os.environ.get("OVERTRAIN_VLLM_PYTHON"):
        if os.environ.get("CI") == "true":
            pytest.fail("CI must name vLLM's Python (OVERTRAIN_VLLM_PYTHON)")
        pytest.skip("no Python with vLLM named (OVERTRAIN_VLLM_PYTHON)")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = [{"instruction": f"{a} + {b}", "output": f"{a + b}"} for a in range(6) for b in range(6)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    tuning = f"finetune: {{data: {tmp_path}/sums.jsonl, learning_rate: 1e-2, max_steps: 2, train_batch_size: 4}}"
    noise = "\n- gaussian: {gamma: 0.2, init_std: '0.02'}" if in_memory else ""
    (tmp_path / "recipe.yaml").write_text(f"- {tuning}{noise}\n")
    arguments = {"pretrained": servable, "recipe": str(tmp_path / "recipe.yaml"), "device": "cpu", "batch_size": 4}
    here, served = RecipeLM(**arguments), RecipeLM(**arguments, generate_backend="vllm")
    requests = [
        instance(
            "generate_until",
            (Instruction(f"{q} ({i})"), {"until": ["z"], "max_gen_toks": 16, TEMPLATE_KEY: TUNING}),
            task="t",
            document=i,
        )
        for i in range(5)
        for q in QUESTIONS
    ]
    expected = here.generate_until(requests, disable_tqdm=True)
    found = served.generate_until(requests, disable_tqdm=True)
    assert sum(a == b for a, b in zip(found, expected, strict=True)) >= 18
    about = served.get_model_info()["overtrain"]["generation"]
    assert about["backend"] == "vllm"
    assert about["vllm"]
    assert [t["name"] for t in about["templates"]] == ["alpaca"]
    base = RecipeLM(**arguments | {"recipe": _nothing(tmp_path)}).generate_until(
        [
            instance("generate_until", (str(r.args[0]), {"until": ["z"], "max_gen_toks": 16}), task="t", document=i)
            for i, r in enumerate(requests)
        ],
        disable_tqdm=True,
    )
    assert sum(a == b for a, b in zip(found, base, strict=True)) < 10


def _nothing(folder):
    (folder / "nothing.yaml").write_text("- gaussian: {gamma: 0}\n")
    return str(folder / "nothing.yaml")


def test_vllm_needs_a_python_that_has_it(make_model, monkeypatch, tmp_path):
    lm = FineTunedLM(
        pretrained=str(make_model("olmo")),
        data=str(_rows(tmp_path)),
        learning_rate=1e-2,
        max_steps=1,
        train_batch_size=4,
        device="cpu",
        generate_backend="vllm",
        vllm_python="/nowhere/python",
    )
    with pytest.raises(ConfigError, match="no such program"):
        lm.generate_until(ask(), disable_tqdm=True)


def _rows(folder):
    (folder / "rows.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n" * 1)
    return folder / "rows.jsonl"
