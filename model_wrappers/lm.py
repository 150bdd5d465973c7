"""lm-eval models of modified checkpoints. Only this module subclasses lm-eval's own model, ``HFLM``.

``overtrain_ft`` fine-tunes, ``overtrain_perturb`` perturbs, ``overtrain`` follows a recipe file. Afterwards, each of them is
evaluated like ``hf``, by lm-eval's own code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
from typing import TYPE_CHECKING, Any

from lm_eval.models.huggingface import HFLM

from model_wrappers.arguments import choose, split_arguments
from model_wrappers.checkpoints.load_errors import loading, refuse_empty
from model_wrappers.checkpoints.loading import Whole, refuse_ignored
from model_wrappers.checkpoints.twins import twins
from model_wrappers.compat import rolling_answer, rolling_text, rolling_value, warn_if_untried
from model_wrappers.errors import ConfigError, DataError
from model_wrappers.generation.answers import AnswerGenerator
from model_wrappers.generation.options import GenerateOptions
from model_wrappers.generation.stopping import generate_rows
from model_wrappers.host_arguments import check_device, check_host_arguments
from model_wrappers.identity import (
    CellIdentity,
    RequestDigest,
    canonical,
    score_arguments,
    tokenizer_sha256,
    weights_id,
)
from model_wrappers.materialise import Step, apply_in_memory, steps_of, tuned_weights, versions
from model_wrappers.processes import join, world
from model_wrappers.recipe import read_recipe
from model_wrappers.scoring.engine import PrefixScorer
from model_wrappers.scoring.options import take_scoring
from model_wrappers.scoring.rolling import RollingLogLikelihood

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CacheHook

    from model_wrappers.modifications.base import Modification
    from model_wrappers.scoring.score import ScoringPlan

log = logging.getLogger(__name__)

__all__ = ["FineTunedLM", "ModifiedLM", "PerturbedLM", "RecipeLM"]


class ModifiedLM(HFLM):
    """An lm-eval causal LM with modified weights.

    It takes the arguments of lm-eval's ``hf`` model and the fields of the modification. ``revision``, ``subfolder`` and
    ``tokens`` (seen in pre-training, if the revision's name does not give them) describe the checkpoint. The fields of
    `GenerateOptions` (``generate_backend``, ...) choose how answers are generated.

    Log-likelihoods are computed once per distinct prefix, if this is proven to give lm-eval's scores. With ``scoring=plain``,
    lm-eval's own path is always used.

    Trained weights are always loaded from the cache, so scores right after training are equal, bit by bit, to scores in a later
    run. With ``dtype=auto``, trained weights are evaluated in the checkpoint's own dtype, like the base model.

    Raises:
        ConfigError: an argument is unknown, missing or has an impossible value.
        CheckpointError: there is no such checkpoint, or it cannot be loaded safely.
        DataError: the training data are unusable, or a continuation is longer than the model's context.
        StoreError: tuned weights cannot be written to the cache.
    """

    def __init__(self, pretrained: Any = None, **kwargs: Any) -> None:
        warn_if_untried()
        arguments = {"pretrained": pretrained} | kwargs
        self._answers = AnswerGenerator(self, GenerateOptions.take(arguments))
        self._scoring = take_scoring(arguments)
        chosen = self._choose(arguments)
        kind = chosen if isinstance(chosen, type) else None
        self.checkpoint, fields, rest = split_arguments(arguments, kind, HFLM)
        rest = check_host_arguments(rest, HFLM)
        self.modifications = chosen if isinstance(chosen, tuple) else (chosen.parse(fields),)
        self.checkpoint.verify()
        for twin in twins(self.checkpoint):
            log.warning(
                "%s: revision %s holds the same weights as revision %s",
                self.checkpoint.repo,
                self.checkpoint.revision,
                twin,
            )
        # Without this variable, transformers starts a thread that asks the hub to convert repositories with .bin files.
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
        self._steps: list[Step] = []
        self._digest = RequestDigest()
        self._hidden_requests = False
        self._weights_folder: str | None = None
        self._trust_remote_code = bool(rest.get("trust_remote_code"))
        self._score_arguments = score_arguments(rest, HFLM)
        join()
        if world()[1] == 1 and not rest.get("parallelize") and rest.get("tp_plan") is None:
            check_device(rest.get("device", "cuda"))
        super().__init__(
            pretrained=self.checkpoint.location(),
            revision=self.checkpoint.revision,
            subfolder=self.checkpoint.subfolder,
            **rest,
            **dict(self.checkpoint.overrides),
        )
        self._rank, self._world_size = world()

    @classmethod
    def _choose(cls, arguments: dict[str, Any]) -> type[Modification] | tuple[Modification, ...]:
        """Return the class of the modification, or finished modifications; remove the arguments that chose it."""
        raise NotImplementedError

    @property
    def _effective(self) -> tuple[Modification, ...]:
        return tuple(m for m in self.modifications if not m.is_neutral())

    def _create_model(self, pretrained: str, dtype: Any = "auto", **kwargs: Any) -> None:
        """Load the weights (trained weights from the cache), and apply the modifications that are repeated at every load."""
        todo = self._effective
        trained = max((i + 1 for i, m in enumerate(todo) if m.materialise), default=0)
        if trained:
            entry = tuned_weights(
                self.checkpoint,
                todo[:trained],
                self.tokenizer,
                key=self.weights_id if trained == len(todo) else None,
                device=self._device,
                trust_remote_code=bool(kwargs.get("trust_remote_code")),
            )
            self._steps = steps_of(entry)
            if dtype == "auto":
                dtype = getattr(self._config, "dtype", None) or "auto"
            kwargs |= {"revision": "main", "subfolder": ""}
            pretrained = str(entry.path)
            self._weights_folder = pretrained if trained == len(todo) else None
        self._load_whole(pretrained, dtype, **kwargs)
        self._model, steps = apply_in_memory(self.model, self.tokenizer, self.checkpoint, todo[trained:])
        self._steps += steps

    def _get_config(self, *arguments: Any, **kwargs: Any) -> None:
        with loading("configuration", self.checkpoint, kwargs):
            super()._get_config(*arguments, **kwargs)

    def _create_tokenizer(self, *arguments: Any, **kwargs: Any) -> None:
        given = {"tokenizer": arguments[1]} if len(arguments) > 1 else {}
        with loading("tokenizer", self.checkpoint, given | kwargs):
            super()._create_tokenizer(*arguments, **kwargs)
            refuse_empty(self.tokenizer, self.checkpoint)

    def _load_whole(self, pretrained: str, dtype: Any, **kwargs: Any) -> None:
        """Load with lm-eval's own method; refuse missing weights and settings that transformers ignored.

        Raises:
            CheckpointError: weights are missing, damaged or unsafe to load.
            ConfigError: a value that should replace one of ``config.json`` had no effect.
        """
        auto_class: Any = getattr(self, "AUTO_MODEL_CLASS")  # noqa: B009  (HFLM sets it without a type)
        self.AUTO_MODEL_CLASS = Whole(auto_class)
        try:
            with loading("weights", self.checkpoint, kwargs | {"dtype": dtype}):
                HFLM._create_model(self, pretrained=pretrained, dtype=dtype, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = auto_class
        refuse_ignored(self._model, self.checkpoint.overrides)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return (log-likelihood in nats, whether greedy) per request, as lm-eval defines it."""
        self._note("loglikelihood", requests)
        if self._scoring == "prefixes":
            pairs: list[tuple[str, str]] = [r.args for r in requests]
            with self._progress(len(requests), disable_tqdm) as on_row:
                found = self._scorer.pairs(pairs, on_row)
            if found is not None:
                for pair, value in zip(pairs, found, strict=True):
                    self.cache_hook.add_partial("loglikelihood", pair, value)
                return found
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Any]:
        """Return the log-likelihood in nats of each text; each value has an attribute with the number of scored tokens.

        From lm-eval 0.5 on, each value is inside a tuple, as that release requires.
        """
        self._note("loglikelihood_rolling", requests)
        texts = [rolling_text(r.args) for r in requests]
        if self._scoring == "prefixes":
            with self._progress(len(requests), disable_tqdm) as on_row:
                found = self._scorer.texts(texts, on_row)
            if found is not None:
                answers = [rolling_answer(RollingLogLikelihood(value, tokens=count)) for value, count in found]
                for request, answer in zip(requests, answers, strict=True):
                    self.cache_hook.add_partial("loglikelihood_rolling", request.args, answer)
                return answers
        values = map(rolling_value, super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm))
        counts = (len(self.tok_encode(text)) for text in texts)
        return [rolling_answer(RollingLogLikelihood(v, tokens=n)) for v, n in zip(values, counts, strict=True)]

    @functools.cached_property
    def _scorer(self) -> PrefixScorer:
        host = functools.partial(super().loglikelihood, disable_tqdm=True)
        return PrefixScorer(self, super()._loglikelihood_tokens, host, self._check_plan)

    def _check_plan(self, plan: ScoringPlan) -> None:
        """Refuse continuations that are longer than the context, and continuations without a token."""
        for scored, target in zip(plan.scored, plan.targets, strict=True):
            if scored > self.max_length:
                raise DataError(self._too_long(scored, self.tok_decode(target[:30].tolist())))
            if scored < 1:
                raise DataError("a continuation has no token to score; correct the task, or leave its document out")

    def _too_long(self, tokens: int, text: str) -> str:
        return (
            f"a continuation of {tokens} tokens ({text[:60]!r}...) is longer than the model's context of {self.max_length} "
            "tokens; leave the task out, or evaluate a model with a longer context"
        )

    @contextlib.contextmanager
    def _progress(self, total: int, disable: bool) -> Iterator[Callable[[int], None]]:
        from tqdm import tqdm

        with tqdm(total=total, disable=disable or self.rank != 0, desc="Running loglikelihood requests") as bar:
            yield bar.update

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return one generated continuation per request; see `model_wrappers.generation` for instructions and vLLM.

        Raises:
            ConfigError: there is no template for an instruction, or an argument has an impossible value.
            ServerError: vLLM did not start or did not answer.
        """
        self._note(self._answers.options.request_kind, requests)
        return self._answers.generate(
            requests,
            self._taught_template(),
            functools.partial(super().generate_until, disable_tqdm=disable_tqdm),
            self._weights_folder,
            trust_remote_code=self._trust_remote_code,
        )

    def _taught_template(self) -> str | None:
        """Return the template of the last training; None if no modification trained."""
        taught = [m.prompt_template(step.record) for m, step in zip(self._effective, self._steps, strict=True)]
        return next((template for template in reversed(taught) if template is not None), None)

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> torch.Tensor:
        return generate_rows(self, context, max_length, stop, **generation_kwargs)

    def _detect_batch_size(self, requests: Any = None, pos: int = 0) -> int:
        """Return how many rows fit into memory. For generation, a row is the longest prompt with its answer, not the context.

        On a CPU, the number for generation is fixed, because trying larger numbers would make the machine swap.
        """
        if requests is None and self._answers.longest:
            if self.device.type == "cpu":
                return min(int(self.max_batch_size), _GENERATED_AT_A_TIME_ON_CPU)
            requests, pos = [(None, [0] * self._answers.longest, [0])], 0
        return int(super()._detect_batch_size(requests, pos))

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        for text, _, continuation in requests:
            if len(continuation) > self.max_length:
                raise DataError(self._too_long(len(continuation), text[1] if text else "a window"))
        return super()._loglikelihood_tokens(requests, **kwargs)

    def _note(self, kind: str, requests: list[Instance]) -> None:
        """Add the requests of all ranks to the digest that ``cell_id`` hashes."""
        self._digest.add(kind, requests)
        if self.world_size > 1:
            import torch

            seen: list[Any] = [None] * self.world_size
            torch.distributed.all_gather_object(seen, self._digest.seen)
            self._digest.merge(seen)

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Give ``--use_cache`` one table per model, because lm-eval's keys contain the request but not the model."""
        database = cache_hook.dbdict
        if database is not None:
            identity = canonical(
                [self.weights_id, self._score_arguments, self._tokenizer_sha256, self._answers.options.generate_backend]
            )
            table = f"overtrain_{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
            database.conn.execute(f'CREATE TABLE IF NOT EXISTS "{table}" (key TEXT PRIMARY KEY, value BLOB)')
            database.conn.commit()
            database.tablename = table
            self._hidden_requests = True
        super().set_cache_hook(cache_hook)

    @functools.cached_property
    def _tokenizer_sha256(self) -> str:
        return tokenizer_sha256(self.tokenizer)

    @functools.cached_property
    def weights_id(self) -> str:
        """Return the identity of the evaluated weights."""
        return weights_id(self.checkpoint, self._effective, self.tokenizer)

    def get_model_info(self) -> dict[str, Any]:
        """Return lm-eval's description of the model and, under ``overtrain``, where its weights came from."""
        info: dict[str, Any] = super().get_model_info()
        dtype = str(info["model_dtype"]).removeprefix("torch.")
        identity = self.weights_id
        # --use_cache answers some requests before the model sees them. Without these, the cell_id cannot be computed.
        found = CellIdentity(
            weights=identity,
            tasks=self._digest.by_task(),
            dtype=dtype,
            tokenizer=self._tokenizer_sha256,
            arguments=self._score_arguments,
        )
        info["overtrain"] = {
            "weights_id": identity,
            "cell_id": None if self._hidden_requests else found.cell_id,
            "requests_sha256": dict(found.tasks),
            "tokenizer_sha256": found.tokenizer,
            "arguments": dict(found.arguments),
            "checkpoint": self.checkpoint.describe(),
            "tokens": self.checkpoint.tokens_seen(),
            "dtype": dtype,
            "modifications": self._outcomes(),
            "versions": versions(),
        }
        if generation := self._answers.describe():
            info["overtrain"]["generation"] = generation
        return info

    def _outcomes(self) -> list[dict[str, Any]]:
        steps = iter(self._steps)
        return [self._outcome(m, None if m.is_neutral() else next(steps)) for m in self.modifications]

    @staticmethod
    def _outcome(m: Modification, step: Step | None) -> dict[str, Any]:
        """Return a modification's fields, metrics and record. The training log, which is long, stays in the cache."""
        if step is None:
            return m.describe() | {"identity": True, "metrics": {}}
        return m.describe() | {"metrics": step.metrics} | {k: v for k, v in step.record.items() if k != "training_log"}


_GENERATED_AT_A_TIME_ON_CPU = 16


class FineTunedLM(ModifiedLM):
    """``overtrain_ft``: trains the checkpoint, then evaluates it. The arguments choose how, e.g. ``lora_rank`` for LoRA."""

    @classmethod
    def _choose(cls, arguments: dict[str, Any]) -> type[Modification]:
        return choose(arguments, lambda m: m.materialise)


class PerturbedLM(ModifiedLM):
    """``overtrain_perturb``: perturbs the checkpoint (Gaussian noise, or ``kind=NAME``), then evaluates it."""

    @classmethod
    def _choose(cls, arguments: dict[str, Any]) -> type[Modification]:
        return choose(arguments, lambda m: not m.materialise)


class RecipeLM(ModifiedLM):
    """``overtrain``: applies the modifications of ``recipe=FILE`` in order, then evaluates."""

    @classmethod
    def _choose(cls, arguments: dict[str, Any]) -> tuple[Modification, ...]:
        recipe = arguments.pop("recipe", None)
        if recipe is None:
            raise ConfigError("overtrain needs recipe=FILE: a YAML list such as '- gaussian: {gamma: 0.05}'")
        return read_recipe(str(recipe))
