"""What can be wrong with a checkpoint's folder, and what its message then says."""

from __future__ import annotations

import json
import pickle


class Runs:
    def __init__(self, witness):
        self.witness = str(witness)

    def __reduce__(self):
        return (open, (self.witness, "w"))


def as_bin(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)


def half(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def half_bin(folder):
    import torch
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    as_bin(folder, b"")
    torch.save(weights, folder / "pytorch_model.bin")
    half(folder / "pytorch_model.bin")


def configured(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


DAMAGES = {
    "unsafe .bin": (lambda f: as_bin(f, pickle.dumps({"a": Runs(f / "ran")}, protocol=2)), "nothing in them was run"),
    "empty .bin": (lambda f: as_bin(f, b""), "are damaged"),
    "noise in .bin": (lambda f: as_bin(f, bytes(range(128, 256)) * 40), "weights of|refused"),
    "half a .bin": (half_bin, "are damaged"),
    "half a safetensors": (lambda f: half(f / "model.safetensors"), "are damaged"),
    "empty safetensors": (lambda f: (f / "model.safetensors").write_bytes(b""), "are damaged"),
    "no header": (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 100), "are damaged"),
    "no tokenizer": (lambda f: [p.unlink() for p in f.glob("*token*")], "copy the tokenizer's files beside"),
    "half a tokenizer": (lambda f: half(f / "tokenizer.json"), "the tokenizer of"),
    "empty tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "the tokenizer of"),
    "tokenizer_config a list": (lambda f: (f / "tokenizer_config.json").write_text("[1"), "the tokenizer of"),
    "half a config": (lambda f: half(f / "config.json"), "correct config.json"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "is no configuration"),
    "config empty": (lambda f: (f / "config.json").write_text("{}"), "model_type=None"),
    "unknown model": (configured(model_type="nosuch"), "model_type='nosuch'"),
    "hidden_size a word": (configured(hidden_size="many"), "hidden_size"),
    "no attention head": (configured(num_attention_heads=0), "config"),
    "unknown activation": (configured(hidden_act="nosuch"), "cannot be loaded"),
    "unknown rope": (configured(rope_parameters={"rope_type": "x", "rope_theta": 1e4}), "cannot be loaded"),
    "other shapes": (configured(intermediate_size=48), "other shapes"),
    "more layers": (configured(num_hidden_layers=3), "lacks .* weights"),
    "unknown dtype": (configured(dtype="float12"), "float12"),
    "code of its own": (configured(model_type="own", auto_map={"AutoConfig": "a.C"}), "trust_remote_code=True"),
}
