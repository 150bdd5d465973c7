"""Stops the generation of each row of a batch as soon as the row's answer ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import StoppingCriteria

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["RowStop", "generate_rows"]

_SPARE = 2
"""Extra tokens to decode: a model may write a stop text with more tokens than the tokenizer would use for it."""


class RowStop(StoppingCriteria):
    """Stops a row when its continuation contains a stop text.

    Deviation: lm-eval's criterion stops a batch when all rows contain the *same* stop text. If one row ends in the
    end-of-sequence token and another in ``Human:``, lm-eval continues both to the full length. The answers are equal, because
    the text after a stop text is cut off in both cases.

    Args:
        tokenizer: the model's tokenizer.
        stops: the stop texts.
        start: number of tokens of the (padded) prompts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], start: int) -> None:
        self._tokenizer, self._stops, self._start = tokenizer, tuple(stops), start
        lengths = [len(tokenizer.encode(stop, add_special_tokens=False)) for stop in stops]
        self._back = max(lengths, default=0) + _SPARE
        self._done: list[bool] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002
        """Return a (batch,) bool tensor: True for rows that are finished.

        Args:
            input_ids: (batch, tokens) int64, the prompts and the tokens generated so far.
            scores: not used.
        """
        import torch

        rows = input_ids[:, self._start :][:, -self._back :]
        self._done = self._done or [False] * len(rows)
        open_rows = [i for i, done in enumerate(self._done) if not done]
        if self._stops and open_rows:
            for i, text in zip(open_rows, self._tokenizer.batch_decode(rows[open_rows]), strict=True):
                self._done[i] = any(stop in text for stop in self._stops)
        return torch.tensor(self._done, dtype=torch.bool, device=input_ids.device)


def generate_rows(lm: Any, context: torch.Tensor, max_length: int, stop: Sequence[str], **kwargs: Any) -> torch.Tensor:
    """Generate as lm-eval's ``HFLM._model_generate`` does, but stop each row at its own end.

    Args:
        lm: lm-eval's model.
        context: (batch, tokens) int64, padded on the left.
        max_length: largest number of tokens of prompt and answer together.
        stop: texts that end an answer.
        kwargs: further arguments of transformers' ``generate``, ``attention_mask`` included.

    Returns:
        (batch, tokens) int64, the prompts included; rows that ended early are padded.
    """
    import torch
    from transformers import StoppingCriteriaList

    temperature = kwargs.pop("temperature", 0.0)
    if temperature == 0.0 and kwargs.get("do_sample") is None:
        kwargs["do_sample"] = False
    if kwargs["do_sample"] or temperature:
        kwargs["temperature"] = temperature
    criteria = StoppingCriteriaList([RowStop(lm.tokenizer, stop, context.shape[1])])
    precision = lm.mixed_precision_dtype
    with torch.autocast(device_type=lm.device.type, dtype=precision, enabled=precision is not None):
        return lm.model.generate(
            input_ids=context,
            max_length=max_length,
            stopping_criteria=criteria,
            pad_token_id=lm.tokenizer.pad_token_id,
            use_cache=True,
            **kwargs,
        )
