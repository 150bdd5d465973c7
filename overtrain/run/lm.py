"""The lm-eval model of a study's cell: modifications come as objects, base weights are kept from cell to cell."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from model_wrappers.lm import ModifiedLM
from model_wrappers.materialise import Step, apply_in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lm_eval.api.instance import Instance

    from model_wrappers.modifications.base import Modification, Shared

__all__ = ["CellLM", "HeldWeights"]


class HeldWeights:
    """One loaded base model and a copy of its weights, so that the next cell of it need not read them again; its tokenizer.

    The copy is restored bit by bit; subtracting a perturbation again would not be exact. Twice the memory of the weights.
    It also holds what the applications of one modification share, such as the random draws of noise.
    """

    def __init__(self) -> None:
        self._key: str | None = None
        self._model: Any = None
        self._copy: dict[str, Any] = {}
        self._tokenizer: tuple[str, Any] | None = None
        self._shared: dict[type[Modification], Shared | None] = {}

    @contextlib.contextmanager
    def sharing(self, modifications: Iterable[Modification]) -> Iterator[None]:
        """Let ``modifications`` use the shared objects of earlier cells of this process inside the block."""
        with contextlib.ExitStack() as stack:
            for kind in dict.fromkeys(type(m) for m in modifications):
                if kind not in self._shared:
                    self._shared[kind] = kind.shared()
                shared = self._shared[kind]
                if shared is not None:
                    stack.enter_context(shared.in_use())
            yield

    def tokenizer(self, key: str, load: Callable[[], Any]) -> Any:
        """Return the tokenizer called ``key``, which nobody changes; loaded if the last one was another."""
        if self._tokenizer is None or self._tokenizer[0] != key:
            self._tokenizer = key, load()
        return self._tokenizer[1]

    def take(self, key: str) -> Any:
        """Return the model called ``key`` with its original weights, or None. Another model is released."""
        import torch

        if key != self._key:
            self._key, self._model, self._copy = None, None, {}
            return None
        state = self._model.state_dict()
        if state.keys() != self._copy.keys() or any(state[n].shape != v.shape for n, v in self._copy.items()):
            self._key, self._model, self._copy = None, None, {}
            return None
        with torch.no_grad():
            for name, value in self._copy.items():
                state[name].copy_(value)
        return self._model

    def put(self, key: str, model: Any) -> None:
        """Keep a freshly loaded model."""
        self._key, self._model = key, model
        self._copy = {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


class CellLM(ModifiedLM):
    """`ModifiedLM` with ``modifications`` (a tuple, empty for the base) and ``held`` (or None) as arguments."""

    def __init__(self, pretrained: str, *, held: HeldWeights | None = None, **kwargs: Any) -> None:
        self._held = held
        super().__init__(pretrained, **kwargs)

    @classmethod
    def _choose(cls, arguments: dict[str, Any]) -> tuple[Modification, ...]:
        return tuple(arguments.pop("modifications"))

    @property
    def steps(self) -> list[Step]:
        """What every modification did, in order."""
        return list(self._steps)

    def _create_tokenizer(self, *arguments: Any, **kwargs: Any) -> None:
        def load() -> Any:
            ModifiedLM._create_tokenizer(self, *arguments, **kwargs)
            return self.tokenizer

        if self._held is None:
            load()
        else:
            self.tokenizer = self._held.tokenizer(repr((arguments, sorted(kwargs.items()))), load)

    def _create_model(self, pretrained: str, dtype: Any = "auto", **kwargs: Any) -> None:
        todo = self._effective
        if self._held is None or any(m.materialise for m in todo):
            super()._create_model(pretrained, dtype=dtype, **kwargs)
            return
        key = repr((pretrained, str(dtype), str(self._device), sorted((k, str(v)) for k, v in kwargs.items())))
        model = self._held.take(key)
        if model is None:
            self._load_whole(pretrained, dtype, **kwargs)
            self._held.put(key, self._model)
        else:
            self._model = model
        with self._held.sharing(todo):
            self._model, self._steps = apply_in_memory(self._model, self.tokenizer, self.checkpoint, todo)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """As in lm-eval, without a progress bar per cell."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[Any]:
        """As in lm-eval, without a progress bar per cell."""
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """As in lm-eval, without a progress bar per cell."""
        return super().generate_until(requests, disable_tqdm=disable_tqdm)
