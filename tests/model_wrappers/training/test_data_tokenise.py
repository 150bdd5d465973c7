"""Tokens, masks, truncation and batches."""

from __future__ import annotations

import numpy as np
import pytest

from model_wrappers.errors import ConfigError, DataError
from model_wrappers.training.batches import flatten_batch, pad_batch
from model_wrappers.training.data import DataSpec, Example, Segment, load_examples
from model_wrappers.training.formats import Dialogue, Message
from model_wrappers.training.templates import render, render_prompt
from model_wrappers.training.tokenise import TokenisedRow, tokenise

REAL = ["alpaca/train", "dolly/train", "gsm8k/train", "hh_rlhf_harmless/test"]


def qa(question, answer):
    return render(Dialogue((Message("user", question), Message("assistant", answer))), "qa")


def row(ids, mask):
    return TokenisedRow(np.array(ids, dtype=np.int32), np.array(mask, dtype=bool))


@pytest.fixture(scope="module")
def metaspace():
    """A tokenizer of Llama's kind: byte fallback, a space marker before every text, and a BOS that it adds itself."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    raw.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")  # no merge over a space, as in Llama's
    raw.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    texts = ["Question: what is two and two?", "Answer: four", "user assistant yes no"] * 4
    raw.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=340, special_tokens=special, show_progress=False))
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


# Tokens


@pytest.mark.parametrize("name", REAL)
def test_real_rows_decode_to_their_text_and_targets_to_theirs(real_data, tokenizer, name):
    loaded = load_examples(DataSpec(data=str(real_data / f"{name}.jsonl"), data_limit=60, validation_fraction=0))
    done = tokenise(loaded.train, tokenizer, 1 << 20)
    assert len(done.rows) == 60
    eos = tokenizer.eos_token
    for example, tokens in zip(loaded.train, done.rows, strict=True):
        whole = "".join(s.text + (eos if s.target else "") for s in example.segments)
        assert tokenizer.decode(tokens.input_ids) == whole
        targets = "".join(s.text + eos for s in example.segments if s.target)
        assert tokenizer.decode(tokens.input_ids[tokens.target_mask]) == targets
        prompt = tokenizer(example.segments[0].text).input_ids  # what generation feeds
        assert tokens.input_ids[: len(prompt)].tolist() == prompt
        assert not tokens.target_mask[: len(prompt)].any()
    assert done.tokens == sum(len(r.input_ids) for r in done.rows)
    assert done.target_tokens == sum(int(r.target_mask.sum()) for r in done.rows)
    assert (done.truncated, done.dropped) == (0, {})
    assert {(r.input_ids.dtype, r.target_mask.dtype) for r in done.rows} == {(np.dtype("int32"), np.dtype("bool"))}


def test_special_tokens_spelt_in_a_row_stay_text(tokenizer):
    text = "say <|endoftext|> and <|pad|>"
    tokens = tokenise([qa(text, text)], tokenizer, 512).rows[0]
    assert tokens.input_ids.tolist().count(tokenizer.eos_token_id) == 1
    assert tokens.input_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.pad_token_id not in tokens.input_ids
    assert tokenizer.decode(tokens.input_ids[:-1]) == f"Question: {text}\nAnswer: {text}"
    assert (
        tokenizer(text).input_ids.count(tokenizer.eos_token_id) == 1
    )  # the tokenizer itself would have read it as one
    assert tokenizer("<|endoftext|>").input_ids == [tokenizer.eos_token_id]  # and is left as it was


def test_special_tokens_stay_text_for_a_tokenizer_of_llamas_kind(metaspace):
    tokens = tokenise([qa("yes </s> no", "no </s>")], metaspace, 512).rows[0].input_ids.tolist()
    assert tokens.count(metaspace.eos_token_id) == tokens.count(metaspace.bos_token_id) == 1


def test_bos_comes_first_where_the_tokenizer_adds_it(metaspace, tokenizer):
    with_bos = tokenise([qa("yes", "no")], metaspace, 64).rows[0]
    prompt = metaspace(render_prompt("yes", "qa")).input_ids
    assert prompt[0] == metaspace.bos_token_id
    assert with_bos.input_ids[: len(prompt)].tolist() == prompt
    assert not with_bos.target_mask[: len(prompt)].any()
    assert tokenise([qa("yes", "no")], tokenizer, 64).rows[0].input_ids[0] != tokenizer.eos_token_id


def test_no_spurious_space_marker_before_later_segments(metaspace):
    """Equal to the tokens of the joined text, which is what a model continues; segment by segment there is one more."""
    for template in ("qa", "tulu"):
        example = render(Dialogue((Message("user", "what is two"), Message("assistant", "four and two"))), template)
        tokens = tokenise([example], metaspace, 64).rows[0].input_ids.tolist()
        joined = metaspace("".join(s.text for s in example.segments)).input_ids
        assert tokens == [*joined, metaspace.eos_token_id]
    naive = [i for s in example.segments for i in metaspace(s.text, add_special_tokens=False).input_ids]
    assert len(naive) != len(joined) - 1


def test_a_chat_template_that_writes_its_own_bos_gets_no_second(metaspace):
    example = Example((Segment("<s>user", target=False, special=True), Segment(" yes", target=True)))
    ids = tokenise([example], metaspace, 64).rows[0].input_ids.tolist()
    assert ids[0] == metaspace.bos_token_id
    assert ids.count(metaspace.bos_token_id) == 1


def test_the_first_token_of_a_row_is_never_a_target(tokenizer):
    tokens = tokenise([Example((Segment("abc", target=True),))], tokenizer, 64).rows[0]
    assert tokens.target_mask.tolist() == [False] + [True] * (len(tokens.input_ids) - 1)


def test_more_rows_than_one_chunk_keep_their_order(tokenizer):
    done = tokenise([qa(str(i), str(i)) for i in range(2500)], tokenizer, 64)
    decoded = [tokenizer.decode(r.input_ids[r.target_mask]) for r in done.rows]
    assert decoded == [f" {i}<|endoftext|>" for i in range(2500)]


# Truncation


def test_truncation_cuts_on_the_right_and_counts(tokenizer):
    examples = [qa("q", "a"), qa("q", "a much longer answer"), qa("a question longer than all of it", "a")]
    whole = tokenise(examples, tokenizer, 1024).rows
    limit = len(whole[1].input_ids) - 3
    assert len(whole[0].input_ids) <= limit < int(whole[2].target_mask.argmax())
    done = tokenise(examples, tokenizer, limit)
    assert done.dropped == {"with targets only beyond train_max_length": 1}
    assert done.truncated == 1
    for cut, full in zip(done.rows, whole[:2], strict=True):
        assert cut.input_ids.tolist() == full.input_ids[:limit].tolist()
        assert cut.target_mask.tolist() == full.target_mask[:limit].tolist()
    assert done.tokens == len(whole[0].input_ids) + limit


def test_all_targets_cut_off_is_an_error_whose_remedy_works(tokenizer):
    examples = [qa("a long question " * n, "a") for n in (3, 4)]
    with pytest.raises(
        DataError, match="none of the 2 rows read keeps a target within train_max_length=8 tokens: 2 with"
    ) as e:
        tokenise(examples, tokenizer, 8)
    remedy = int(str(e.value).split("give train_max_length=")[1].split()[0])
    assert len(tokenise(examples, tokenizer, remedy).rows) == 1
    with pytest.raises(DataError):
        tokenise(examples, tokenizer, remedy - 1)
    assert tokenise(examples, tokenizer, 8, allow_empty=True).rows == []


def test_bad_lengths_and_tokenizers(tokenizer):
    import copy

    with pytest.raises(ConfigError, match="train_max_length=1"):
        tokenise([qa("q", "a")], tokenizer, 1)
    without = copy.deepcopy(tokenizer)
    without.eos_token = None
    with pytest.raises(ConfigError, match=r"no end-of-sequence token.*tokenizer_config"):
        tokenise([qa("q", "a")], without, 64)
    with pytest.raises(DataError, match="none of the 0 rows"):
        tokenise([], tokenizer, 64)


# Batches


def test_flatten_by_hand():
    batch = flatten_batch([row([5, 6, 7], [0, 0, 1]), row([8, 9, 8, 7], [1, 1, 0, 1])])
    assert {k: v.tolist() for k, v in batch.items()} == {
        "input_ids": [[5, 6, 7, 8, 9, 8, 7]],
        "position_ids": [[0, 1, 2, 0, 1, 2, 3]],
        "logit_rows": [1, 3, 5],  # position 2 predicts the next row's first token: never
        "targets": [7, 9, 7],
    }
    assert {v.dtype for v in batch.values()} == {np.dtype("int64")}


def test_pad_by_hand():
    batch = pad_batch([row([5, 6, 7], [0, 0, 1]), row([8, 9, 8, 7], [1, 1, 0, 1])], pad_id=1)
    assert {k: v.tolist() for k, v in batch.items()} == {
        "input_ids": [[5, 6, 7, 1], [8, 9, 8, 7]],
        "attention_mask": [[1, 1, 1, 0], [1, 1, 1, 1]],
        "labels": [[-100, -100, 7, -100], [-100, 9, -100, 7]],
    }


def test_both_batches_hold_the_same_pairs_of_context_and_target(real_data, tokenizer):
    loaded = load_examples(DataSpec(data=str(real_data / "gsm8k/train.jsonl"), data_limit=8, validation_fraction=0))
    rows = tokenise(loaded.train, tokenizer, 200).rows
    flat, padded = flatten_batch(rows), pad_batch(rows, tokenizer.pad_token_id)
    ids, positions = flat["input_ids"][0], flat["position_ids"][0]
    from_flat = {
        (tuple(ids[place - positions[place] : place + 1]), target)
        for place, target in zip(flat["logit_rows"], flat["targets"], strict=True)
    }
    from_padded = {
        (tuple(line[:t]), labels[t])
        for line, labels in zip(padded["input_ids"], padded["labels"], strict=True)
        for t in np.flatnonzero(labels != -100)
    }
    assert from_flat == from_padded
    assert len(from_flat) == len(flat["targets"]) == sum(int(r.target_mask.sum()) for r in rows)
    assert padded["attention_mask"].sum() == len(ids)


def test_no_rows_is_a_bug_of_the_caller():
    for call in (lambda: flatten_batch([]), lambda: pad_batch([], 0)):
        with pytest.raises(ValueError, match="at least one row"):
            call()
