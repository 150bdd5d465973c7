"""What every modification must keep, as tests that a package with a modification of its own runs too.

::

    from overtrain.testing import ModificationContract

    class TestTruncate(ModificationContract):
        modification = Truncate

        def values(self, folder):
            return {"kept": 0.5}

pytest then collects one test per promise. They run on a tiny random model on the CPU and download nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import pickle
import random
import re
import shutil
import tempfile
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from model_wrappers.arguments import CHECKPOINT_ARGUMENTS, FROM_PRETRAINED, host_arguments
from model_wrappers.checkpoints.checkpoint import Checkpoint
from model_wrappers.generation.options import GenerateOptions
from model_wrappers.identity import canonical
from model_wrappers.modifications.registry import broken, registry
from model_wrappers.scoring.options import NAME as SCORING

if TYPE_CHECKING:
    from model_wrappers.modifications.base import Modification, Modified

__all__ = ["ModificationContract", "tiny_checkpoint"]

Weights = dict[str, Any]  # parameter name -> tensor

_PARAMETERS = 1e9  # of the model that a cost is asked for


def tiny_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Save a random Llama of 26,000 parameters with a tokenizer of single bytes into ``folder``, and return it.

    The weights are large enough that attention and logits matter. The global generators are left as they were.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<|endoftext|>", "<|pad|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=words[0], pad_token=words[1])
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        for parameter in (p for p in model.parameters() if p.dim() > 1):
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class ModificationContract:
    """One test per promise of `Modification`; subclass it in a test module.

    Attributes:
        modification: the class to test.
    """

    modification: ClassVar[type[Modification]]

    def values(self, folder: Path) -> dict[str, Any]:
        """Return field values that change the weights of a tiny model; ``folder`` is there for files that they name."""
        raise NotImplementedError

    def test_lm_eval_and_studies_find_it(self) -> None:
        assert registry().get(self.modification.name) is self.modification, broken()

    def test_a_seed_gives_one_outcome(self, tmp_path: Path) -> None:
        first, again, other = (_weights(self._apply(tmp_path, seed=seed).model) for seed in (1, 1, 2))
        assert _equal(first, again), "the same seed gave two outcomes"
        assert not _equal(first, _before()), "values() must change the weights"
        random = self._is_random(tmp_path)
        assert _equal(first, other) is not random, f"is_random() says {random}, which is not so"

    def test_neutral_values_are_the_identity(self, tmp_path: Path) -> None:
        if self.modification.neutral is None:
            return
        assert self._parse(tmp_path, **self.modification.neutral).is_neutral()
        modified = self._apply(tmp_path, **self.modification.neutral)
        assert _equal(_weights(modified.model), _before())
        assert modified.metrics["distance"] == 0

    def test_shapes_dtypes_device_class_and_mode_are_kept(self, tmp_path: Path) -> None:
        model, before = self._apply(tmp_path).model, _load()
        assert type(model) is type(before)
        assert not model.training, "the model is left in training mode"
        assert _forms(model) == _forms(before)

    def test_the_global_generators_are_untouched(self, tmp_path: Path) -> None:
        import numpy as np
        import torch

        def draw() -> tuple[float, float, float]:
            return random.random(), float(np.random.rand()), torch.rand(1).item()  # noqa: NPY002, S311

        def seed() -> None:
            random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002

        with torch.random.fork_rng():
            seed()
            self._apply(tmp_path)
            drawn = draw()
            seed()
            assert drawn == draw()

    def test_the_distance_is_that_of_the_weights(self, tmp_path: Path) -> None:
        modified, before = self._apply(tmp_path), _before()
        after = _weights(modified.model)
        exact = sum((after[n].double() - p.double()).square().sum().item() for n, p in before.items()) ** 0.5
        assert abs(modified.metrics["distance"] - exact) <= 1e-5 * exact

    def test_no_field_has_a_name_that_lm_eval_or_the_checkpoint_owns(self) -> None:
        from lm_eval.models.huggingface import HFLM

        ours = {*CHECKPOINT_ARGUMENTS, *GenerateOptions.names(), SCORING, "kind", "recipe"}
        assert not (host_arguments(HFLM) | FROM_PRETRAINED | ours) & set(self.modification.fields())

    def test_source_fields_and_category_are_documented(self) -> None:
        cls = self.modification
        assert re.search(r"Section|Appendix|equation|https?://", cls.source), "source: give a section or a URL"
        assert all(doc.strip() for doc in cls.fields().values())
        assert re.fullmatch(r"[a-z][a-z_]*", cls.category), "category: one lower-case word"
        assert (cls.__doc__ or "").strip()

    def test_axes_are_fields_of_the_right_kind(self) -> None:
        cls = self.modification
        names, types = [axis.field for axis in cls.axes], typing.get_type_hints(cls)
        assert set(names) <= set(cls.fields()), "an axis must be a field"
        assert len(set(names)) == len(names)
        assert sum(axis.selected for axis in cls.axes) <= 1
        for axis in cls.axes:
            assert axis.label, f"axis {axis.field}: give a label"
            numeric = {float, int} & {types[axis.field], *typing.get_args(types[axis.field])}
            assert numeric or (axis.scale == "linear" and not axis.selected), f"axis {axis.field}: no numbers"

    def test_files_are_fields_of_text(self) -> None:
        cls, types = self.modification, typing.get_type_hints(self.modification)
        assert all(str in {types[name], *typing.get_args(types[name])} for name in cls.files())
        assert set(cls.files()) <= set(cls.content_fields()) <= set(cls.fields())

    def test_a_file_counts_by_its_content(self, tmp_path: Path) -> None:
        """The identity is that of the same file elsewhere, and another one when a line is added."""
        given = self._parse(tmp_path)
        places = {name: Path(str(getattr(given, name))) for name in given.files()}
        for name, place in ((n, p) for n, p in places.items() if p.is_file()):
            moved = Path(shutil.copy(place, tmp_path / f"moved{place.suffix}"))
            assert self._identity(tmp_path, **{name: str(moved)}) == self._identity(tmp_path)
            if place.suffix == ".jsonl":
                moved.write_bytes(place.read_bytes() + place.read_bytes().splitlines(keepends=True)[-1])
                assert self._identity(tmp_path, **{name: str(moved)}) != self._identity(tmp_path)
            absent = self._parse(tmp_path, **{name: str(tmp_path / "absent" / place.name)})
            assert any("absent" in message for message in absent.missing_files())
        assert given.missing_files() == []

    def test_the_cost_is_positive_or_says_what_is_unknown(self, tmp_path: Path) -> None:
        cost = self._parse(tmp_path).cost(None)
        assert (cost.tokens is None) == bool(cost.unknown)
        assert min(cost.tokens or 0.0, cost.flops_per_token, cost.kept_bytes_per_parameter) >= 0
        if self.modification.materialise:
            assert cost.kept_bytes_per_parameter > 0, "trained weights are kept in the cache"
            assert cost.tokens is None or cost.flops(_PARAMETERS) > 0

    def test_it_survives_pickle_json_and_command_lines(self, tmp_path: Path) -> None:
        given = self._parse(tmp_path)
        assert pickle.loads(pickle.dumps(given)) == given  # noqa: S301
        values = {f.name: getattr(given, f.name) for f in dataclasses.fields(given)}
        text = {n: "+".join(map(str, v)) if isinstance(v, tuple) else str(v) for n, v in values.items()}
        assert self.modification.parse(text) == given
        assert json.loads(json.dumps(given.describe()))["modification"] == self.modification.name
        assert canonical(self._identity(tmp_path)) == canonical(self._identity(tmp_path))

    def test_the_seed_is_in_the_identity_where_it_matters(self, tmp_path: Path) -> None:
        one, two = (self._identity(tmp_path, seed=seed) for seed in (1, 2))
        assert (one != two) is self._is_random(tmp_path)

    def test_what_it_measures_is_declared(self, tmp_path: Path) -> None:
        """A study can then be told before it runs that it selects by a metric that there is not."""
        declared = self.modification.metrics
        measured = {name.partition("/")[0] for name in self._apply(tmp_path).metrics}
        assert not declared or measured <= set(declared)

    def test_nothing_is_wrong_with_these_values(self, tmp_path: Path) -> None:
        checkpoint = Checkpoint(repo=_place())
        given = self._parse(tmp_path)
        assert given.problems(checkpoint) == []
        assert all(isinstance(text, str) and text for text in given.remarks(checkpoint))

    def _is_random(self, folder: Path) -> bool:
        return self._parse(folder).is_random(Checkpoint(repo=_place()))

    def _parse(self, folder: Path, **changed: Any) -> Modification:
        return self.modification.parse(self.values(folder) | changed)

    def _apply(self, folder: Path, **changed: Any) -> Modified:
        return self._parse(folder, **changed).apply(_load(), _tokenizer(), Checkpoint(repo=_place()))

    def _identity(self, folder: Path, **changed: Any) -> dict[str, Any]:
        return self._parse(folder, **changed).identity(Checkpoint(repo=_place()), _tokenizer())


@functools.cache
def _place() -> Path:
    folder = tempfile.mkdtemp(prefix="overtrain-testing-")
    return tiny_checkpoint(Path(folder))


def _load() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(_place(), dtype=torch.float32).eval()


@functools.cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_place())


def _before() -> Weights:
    return _weights(_load())


def _weights(model: Any) -> Weights:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def _forms(model: Any) -> dict[str, tuple[Any, ...]]:
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    return {name: (tuple(t.shape), t.dtype, t.device) for name, t in named}


def _equal(one: Weights, two: Weights) -> bool:
    import torch

    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
