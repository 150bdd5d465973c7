"""A tiny judge that vLLM can serve: a chat template of its own, and an opinion that depends on what it reads.

Its weights are random. Only the output layer is made: ``m`` and ``M`` are far more likely than any other token, and which of
them is the more likely one depends on the last hidden state, in the direction in which it varies most over sample prompts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
CONTEXT = 4096


def make_judge(folder: Path, texts: Sequence[str], prompts: Sequence[Sequence[dict[str, str]]]) -> Path:
    """Save model and tokenizer into ``folder``.

    Args:
        folder: to write.
        texts: to train the tokenizer on.
        prompts: chats, of the kind that will be judged; they set where the judge is undecided.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(texts)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=1.0 if "embed" in name else 0.2)
    with torch.no_grad():
        states = torch.stack([_last_state(model, tokenizer, chat) for chat in prompts])
        mean = states.mean(dim=0)
        along = mean / (mean @ mean)  # 1 at the mean
        varied = states - mean
        varied -= varied @ along[:, None] * mean  # leaves the mean's own direction out
        direction = torch.linalg.svd(varied, full_matrices=False).Vh[0]
        scale = 1.5 / (varied @ direction).std()
        model.lm_head.weight.zero_()
        for text, sign in (("m", 1), ("M", -1)):
            (token,) = tokenizer.encode(text, add_special_tokens=False)
            model.lm_head.weight[token] = 12 * along + sign * scale * (direction - direction @ mean * along)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(texts: Sequence[str]):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=1024,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|pad|>")
    made.chat_template = CHAT_TEMPLATE
    return made


def _last_state(model, tokenizer, chat):
    import torch

    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        return model.model(input_ids=ids["input_ids"][:, -CONTEXT:]).last_hidden_state[0, -1]
