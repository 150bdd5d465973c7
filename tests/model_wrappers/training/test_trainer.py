"""The trainer against torch's own loss, optimiser and schedule, and against itself on other paths."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from model_wrappers.errors import ConfigError, DivergedError
from model_wrappers.modifications.lora import Lora
from model_wrappers.training import trainer
from model_wrappers.training.forward import Shortcuts, flatten, flattening_is_exact, held_out_loss
from model_wrappers.training.tokenise import TokenisedRow
from model_wrappers.training.trainer import Schedule, distances, split_batch, train

ARCHITECTURES = ["olmo", "olmo2", "llama", "gpt_neox"]
SCHEDULE = Schedule(
    learning_rate=1e-2,
    lr_scheduler="cosine",
    warmup_steps=0,
    warmup_ratio=0.0,
    weight_decay=0.0,
    epochs=1.0,
    max_steps=4,
    train_batch_size=4,
    micro_batch_size=None,
    max_grad_norm=1.0,
    l2_to_init=0.0,
    precision="fp32",
    gradient_checkpointing=False,
    fsdp=False,
    resume_every=0,
    seed=0,
)


def rows(count=16, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        length = int(rng.integers(4, 20))
        mask = np.zeros(length, dtype=bool)
        mask[int(rng.integers(1, length)) :] = True
        made.append(TokenisedRow(rng.integers(2, 300, length).astype(np.int32), mask))
    return made


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def run(folder, work, **changed):
    model = load(folder)
    return train(model, rows(), rows(3, seed=9), replace(SCHEDULE, **changed), pad_id=1, work=work)


def state(model):
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def furthest(a, b):
    return max(float((a[n] - b[n]).abs().max()) for n in a)


def oracle_loss(model, batch):
    """Token-mean cross-entropy of the targets, row by row, by torch alone."""
    total, count = 0.0, 0
    for row in batch:
        ids = torch.from_numpy(row.input_ids).long()[None]
        logits = model(input_ids=ids).logits[0, :-1]
        keep = torch.from_numpy(row.target_mask[1:])
        total = total + functional.cross_entropy(logits[keep], ids[0, 1:][keep], reduction="sum")
        count += int(keep.sum())
    return total / count


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_equals_a_plain_torch_loop(make_model, tmp_path, architecture):
    """One whole-data batch per step, so that the order of rows cannot matter: AdamW and cosine by torch."""
    folder = make_model(architecture)
    ours = run(folder, tmp_path, train_batch_size=16, max_steps=4)
    model = load(folder)
    optimiser = torch.optim.AdamW(model.parameters(), lr=SCHEDULE.learning_rate, weight_decay=0.0)
    losses = []
    for step in range(4):
        loss = oracle_loss(model, rows())
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = SCHEDULE.learning_rate * 0.5 * (1 + math.cos(math.pi * step / 4))
        optimiser.step()
    assert [entry["loss"] for entry in ours.log] == pytest.approx(losses, abs=2e-4)
    start, end, ours_end = state(load(folder)), state(model), state(ours.model)
    moved = sum(float((end[n] - start[n]).abs().sum()) for n in start)
    apart = sum(float((end[n] - ours_end[n]).abs().sum()) for n in start)
    assert apart < 1e-2 * moved  # Adam turns the rounding of a zero gradient (GPT-NeoX's key bias) into a full step


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_flattening_is_exact_where_it_is_said_to_be(make_model, architecture):
    assert flattening_is_exact(load(make_model(architecture)), rows())


def test_flattening_check_sees_a_leak_between_rows(make_model):
    model = load(make_model("olmo"))
    forward = model.forward

    def leaky(*args, position_ids=None, **kwargs):
        return forward(*args, **kwargs)  # positions run on, and nothing isolates the rows

    model.forward = leaky
    assert not flattening_is_exact(model, rows())


def test_padded_and_flattened_training_agree(make_model, tmp_path, monkeypatch):
    flat = run(make_model("olmo"), tmp_path / "a")
    monkeypatch.setattr(trainer, "flattening_is_exact", lambda *_: False)
    padded = run(make_model("olmo"), tmp_path / "b")
    assert furthest(state(flat.model), state(padded.model)) < 2e-4
    assert flat.metrics["validation_loss"] == pytest.approx(padded.metrics["validation_loss"], abs=1e-5)


def test_micro_batches_and_recomputation_change_speed_only(make_model, tmp_path):
    reference = run(make_model("olmo"), tmp_path / "a", micro_batch_size=4)
    for i, changed in enumerate([{"micro_batch_size": 1}, {"gradient_checkpointing": True, "micro_batch_size": 2}]):
        other = run(make_model("olmo"), tmp_path / str(i), **changed)
        assert furthest(state(reference.model), state(other.model)) < 2e-4


def recorded(monkeypatch):
    """Return a list to which every loss adds its shortcuts: (attention by rows, output layer)."""
    taken, loss = [], Shortcuts.loss
    monkeypatch.setattr(
        Shortcuts,
        "loss",
        lambda self, *args: (taken.append((self.by_rows, self.layer is not None)), loss(self, *args))[1],
    )
    return taken


@pytest.mark.parametrize("prepared", ["full", "lora", "tied", "recomputed", "l2"])
def test_shortcuts_change_speed_only(make_model, tmp_path, monkeypatch, prepared):
    """Attention by rows and the chunked loss against transformers' attention and the loss of all logits."""

    def trained(work):
        model = load(make_model("olmo", tied=prepared == "tied"))
        if prepared == "lora":
            torch.manual_seed(0)
            model = Lora(data="x", learning_rate=1e-4, lora_rank=4).prepare(model)
        schedule = replace(
            SCHEDULE,
            learning_rate=1e-4,
            max_steps=3,
            gradient_checkpointing=prepared == "recomputed",
            l2_to_init=0.1 if prepared == "l2" else 0.0,
        )
        taken.clear()
        return train(model, rows(), rows(3, seed=9), schedule, pad_id=1, work=work)

    taken = recorded(monkeypatch)
    ours = trained(tmp_path / "a")
    assert set(taken) == {(True, True)}
    monkeypatch.setattr(trainer, "known_shortcuts", lambda model, *_, **__: Shortcuts(model))
    plain = trained(tmp_path / "b")
    assert set(taken) == {(False, False)}
    assert [e["loss"] for e in ours.log] == pytest.approx([e["loss"] for e in plain.log], rel=1e-5)
    assert ours.metrics["validation_loss"] == pytest.approx(plain.metrics["validation_loss"], rel=1e-6)
    found, expected = state(ours.model), state(plain.model)
    assert found.keys() == expected.keys()
    apart = sum(float((found[n] - expected[n]).square().sum()) for n in found) ** 0.5
    assert apart < 1e-6 * sum(float(value.square().sum()) for value in expected.values()) ** 0.5
    assert ours.model.state_dict().keys() == plain.model.state_dict().keys()


def test_bf16_with_shortcuts_is_bf16_without(make_model, tmp_path, monkeypatch):
    ours = run(make_model("olmo"), tmp_path / "a", precision="bf16", learning_rate=1e-4)
    monkeypatch.setattr(trainer, "known_shortcuts", lambda model, *_, **__: Shortcuts(model))
    plain = run(make_model("olmo"), tmp_path / "b", precision="bf16", learning_rate=1e-4)
    exact = run(make_model("olmo"), tmp_path / "c", learning_rate=1e-4)
    losses = [torch.tensor([e["loss"] for e in trained.log]) for trained in (ours, plain, exact)]
    rounding = float((losses[1] - losses[2]).abs().max())
    assert 0 < float((losses[0] - losses[2]).abs().max()) < 2 * rounding
    assert ours.metrics["validation_loss"] == pytest.approx(plain.metrics["validation_loss"], rel=1e-3)


def test_shortcuts_end_with_the_training_even_one_that_fails(make_model, tmp_path, monkeypatch):
    model, ids = load(make_model("olmo")), torch.arange(2, 12)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
    monkeypatch.setattr(trainer, "_arguments", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(model, rows(), [], SCHEDULE, pad_id=1, work=tmp_path)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, before)


def test_a_model_that_fails_with_shortcuts_is_trained_without(make_model, tmp_path, monkeypatch):
    """One whose output layer does more than its weight says, in a way that no setting tells of."""
    model = load(make_model("olmo"))
    forward = model.forward

    def doubled(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = out.logits.sin()
        return out

    model.forward = doubled
    taken = recorded(monkeypatch)
    train(model, rows(), [], SCHEDULE, pad_id=1, work=tmp_path)
    assert set(taken) == {(False, False)}


def test_padded_micro_batches_hold_rows_of_like_length_of_the_same_global_batches():
    made = rows(18)
    sampler = trainer._Order(made, 8, seed=3, multiple=1, by_length=True)
    first, again = list(sampler), list(sampler)
    sampler.set_epoch(1)
    other = list(sampler)
    assert first == again != other
    shuffled = torch.randperm(18, generator=torch.Generator().manual_seed(3)).tolist()
    for start in (0, 8, 16):
        batch = first[start : start + 8]
        assert sorted(batch) == sorted(shuffled[start : start + 8])
        lengths = [len(made[index].input_ids) for index in batch]
        assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("multiple", [1, 4, 8])
def test_an_epoch_is_every_row_once_then_rows_that_teach_nothing(multiple):
    made = rows(18)
    order = list(trainer._Order(made, 8, seed=3, multiple=multiple, by_length=False))
    assert sorted(order[:18]) == list(range(18))
    assert len(order) % multiple == 0
    assert len(order) - 18 < multiple
    padded = [trainer._PaddedRows(made)[index] for index in order[18:]]
    assert all(not row.target_mask.any() and len(row.input_ids) == 1 for row in padded)


@pytest.mark.parametrize("flat", [True, False])
def test_rows_that_teach_nothing_change_nothing(make_model, tmp_path, monkeypatch, flat):
    """What fills an epoch up under several processes, forced upon one: 18 rows in micro-batches of 4 become 20."""
    if not flat:
        monkeypatch.setattr(trainer, "flattening_is_exact", lambda *_: False)
    found = []
    for multiple in (1, 20):
        real = trainer._Order.__init__
        monkeypatch.setattr(
            trainer._Order,
            "__init__",
            lambda self, *a, real=real, n=multiple, **k: real(self, *a, **k | {"multiple": n}),
        )
        schedule = replace(SCHEDULE, max_steps=None, epochs=2.0, train_batch_size=8, micro_batch_size=4)
        found.append(train(load(make_model("olmo")), rows(18), [], schedule, pad_id=1, work=tmp_path / str(multiple)))
        monkeypatch.setattr(trainer._Order, "__init__", real)
    assert [e["loss"] for e in found[0].log] == pytest.approx([e["loss"] for e in found[1].log], abs=1e-6)
    assert furthest(state(found[0].model), state(found[1].model)) < 1e-6


@pytest.mark.parametrize("batch", [4, 8])
def test_a_training_that_diverges_says_where_and_is_no_outcome(make_model, tmp_path, batch):
    with pytest.raises(DivergedError, match=r"diverged at step \d+: loss (nan|inf|[\de+.]+), .*learning_rate=1e\+30"):
        run(make_model("olmo"), tmp_path, learning_rate=1e30, max_steps=6, train_batch_size=batch, resume_every=1)
    assert all(int(s.name.rpartition("-")[2]) < 6 for s in tmp_path.glob("checkpoint-*"))


def test_a_warm_up_as_long_as_the_training_is_refused(make_model, tmp_path):
    with pytest.raises(ConfigError, match=r"warmup_steps=4: the training has 4 steps \(16 rows, train_batch_size=4\)"):
        run(make_model("olmo"), tmp_path, warmup_steps=4)
    with pytest.raises(ConfigError, match="the training has 2 steps"):
        run(make_model("olmo"), tmp_path, warmup_steps=20, max_steps=None, train_batch_size=8)
    assert len(run(make_model("olmo"), tmp_path, warmup_steps=3).log) == 4


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("constant", [1, 1, 1, 1]),
        ("constant_with_warmup", [0, 0.5, 1, 1]),
        ("linear", [0, 0.5, 1, 0.5]),
        ("cosine", [0, 0.5, 1, 0.5]),
    ],
)
def test_schedules(make_model, tmp_path, scheduler, expected):
    warmup = 0 if scheduler == "constant" else 2
    log = run(make_model("olmo"), tmp_path, lr_scheduler=scheduler, warmup_steps=warmup).log
    assert [e["learning_rate"] / SCHEDULE.learning_rate for e in log] == pytest.approx(expected)


def test_warmup_ratio_is_a_share_of_the_steps(make_model, tmp_path):
    log = run(make_model("olmo"), tmp_path, lr_scheduler="constant_with_warmup", warmup_ratio=0.5).log
    assert [e["learning_rate"] / SCHEDULE.learning_rate for e in log] == pytest.approx([0, 0.5, 1, 1])


def test_epochs_count_passes_over_the_rows(make_model, tmp_path):
    assert run(make_model("olmo"), tmp_path, max_steps=None, epochs=2.0).metrics["train_steps"] == 2 * 16 / 4


def test_l2_to_init_gradient_and_pull(make_model, tmp_path):
    """With a huge lambda the weights stay where they are; with a small one they move less than without."""
    free, mild, strong = (
        run(make_model("olmo"), tmp_path / str(lam), l2_to_init=lam, lr_scheduler="constant", max_steps=30)
        for lam in (0.0, 1.0, 1000.0)
    )
    start = state(load(make_model("olmo")))
    moved = [distances(start, state(t.model))["distance"] for t in (free, mild, strong)]
    assert moved[0] > moved[1] > moved[2]


def test_l2_to_init_does_not_depend_on_the_micro_batch(make_model, tmp_path):
    a, b = (
        run(make_model("olmo"), tmp_path / str(m), l2_to_init=1.0, micro_batch_size=m, max_grad_norm=0.0)
        for m in (1, 4)
    )
    assert furthest(state(a.model), state(b.model)) < 2e-4


def test_bf16_is_autocast_over_float32_weights(make_model, tmp_path):
    trained = run(make_model("olmo"), tmp_path, precision="bf16", learning_rate=1e-6)
    assert {p.dtype for p in trained.model.parameters()} == {torch.float32}
    start, end = state(load(make_model("olmo"))), state(trained.model)
    changed = sum(int((end[n] != start[n]).sum()) for n in start) / sum(p.numel() for p in start.values())
    # bfloat16 weights would swallow nearly all of these updates (under 2% of the weights changed in 8 steps)
    assert changed > 0.3


def test_validation_loss_is_the_oracles_and_so_is_its_error(make_model):
    model = load(make_model("olmo"))
    value, stderr = held_out_loss(model, rows(3, seed=9), flatten)
    assert value == pytest.approx(oracle_loss(model, rows(3, seed=9)).item(), abs=1e-5)
    sums, counts = zip(
        *[(oracle_loss(model, [r]).item() * r.target_mask.sum(), r.target_mask.sum()) for r in rows(3, seed=9)],
        strict=True,
    )
    residuals = np.array(sums) - value * np.array(counts)
    assert stderr == pytest.approx(np.sqrt(3 / 2 * (residuals**2).sum()) / sum(counts), rel=1e-3)


def test_distances_by_layer():
    before = {"model.layers.0.w": torch.zeros(2), "model.layers.1.w": torch.zeros(1), "lm_head.weight": torch.zeros(1)}
    after = {
        "model.layers.0.w": torch.tensor([3.0, 4.0]),
        "model.layers.1.w": torch.ones(1),
        "lm_head.weight": torch.zeros(1),
    }
    found = distances(before, after)
    assert found == pytest.approx(
        {"distance": 26**0.5, "distance/layers.0": 5.0, "distance/layers.1": 1.0, "distance/lm_head": 0.0}
    )


@pytest.mark.parametrize(("batch", "micro", "processes", "said"), [(5, None, 2, "6"), (8, 3, 1, "1, 2, 4, 8")])
def test_batches_that_do_not_divide_name_those_that_do(batch, micro, processes, said):
    with pytest.raises(ConfigError, match=said):
        split_batch(batch, micro, processes)


def test_fsdp_on_a_cpu_is_refused(make_model, tmp_path):
    with pytest.raises(ConfigError, match="fsdp=true"):
        run(make_model("olmo"), tmp_path, fsdp=True)


def test_a_resumed_training_ends_in_the_same_weights(make_model, tmp_path):
    """Also from a folder whose newest state was cut short by a kill."""
    whole = run(make_model("olmo"), tmp_path / "a", resume_every=1, max_steps=6)
    state_3 = tmp_path / "b" / "checkpoint-3"
    (tmp_path / "b").mkdir()
    half = run(make_model("olmo"), tmp_path / "c", resume_every=3, max_steps=6)
    (tmp_path / "c" / "checkpoint-3").rename(state_3)
    (tmp_path / "b" / "checkpoint-4").mkdir()  # begun, never finished
    again = run(make_model("olmo"), tmp_path / "b", resume_every=3, max_steps=6)
    assert [e["step"] for e in again.log] == [1, 2, 3, 4, 5, 6]
    for other in (half, again):
        assert furthest(state(whole.model), state(other.model)) == 0
        assert other.metrics == whole.metrics
        assert [entry["loss"] for entry in other.log] == [entry["loss"] for entry in whole.log]
