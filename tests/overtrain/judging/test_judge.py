"""A study's answers judged by a fake judge: faults, resumption, scores."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from fake_judge import TEMPLATE, FakeJudge, answer, failure, shown
from rich.console import Console
from study_records import cell_record, cells_of, write_cells

from model_wrappers.errors import ConfigError, DataError, JudgeError, StoreError
from model_wrappers.identity import digest
from overtrain.judging.judge import judge, judge_study
from overtrain.judging.orders import shown_first
from overtrain.results.judged import read_judged
from overtrain.results.store import FILES, Store
from overtrain.study.settings import JudgeSettings

TASK = "overtrain_alpaca_eval"
INSTRUCTIONS = [f"Instruction {n}" for n in range(20)]

KILLED = """
import sys
from pathlib import Path
from overtrain.judging.judge import judge
judge(sys.argv[1], url=sys.argv[2], model="judge", template_file=Path(sys.argv[3]), concurrency=2)
"""


def add_cell(root, name, answers, *, tokens, variant="sft", seed=0, rate=1e-4, instructions=None):
    """Store a finished cell with these answers; return its record."""
    identity = {"name": name, "answers": answers}
    cell_id = digest(identity)
    samples = [
        {"doc_id": n, "doc": {"instruction": i}, "filtered_resps": [text], "filter": "none", "metrics": ["length"]}
        for n, (i, text) in enumerate(zip(instructions or INSTRUCTIONS, answers, strict=True))
    ]
    files = dict.fromkeys(FILES, b"{}")
    files["spec.json"] = json.dumps({"identity": identity}).encode()
    files[f"samples_{TASK}.jsonl"] = b"".join(json.dumps(s, ensure_ascii=False).encode() + b"\n" for s in samples)
    Store(root).write(cell_id, files, "done", started=time.time())
    return cell_record(
        name, cell_id=cell_id, checkpoint=f"m@{tokens}", tokens=tokens, variant=variant, modification="finetune",
        seed=seed, fields={"learning_rate": rate}, answers=True,
    )  # fmt: skip


def write_study(root, cells, **study):
    write_cells(root, cells, tasks=(TASK,), **study)


def texts(quality):
    """Answers that `by_quality` can rank: the number is how good they are."""
    return [f"[{q:.3f}] some answer" for q in np.broadcast_to(quality, len(INSTRUCTIONS))]


def by_quality(messages, bias=0.0):
    """P(first) is logistic in the difference of the qualities, plus a liking for the first place."""
    _, *answers = shown(messages)
    one, other = (float(re.search(r"\[(-?[\d.]+)\]", text).group(1)) for text in answers)
    return float(1 / (1 + np.exp(-(one - other) - bias)))


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "template.txt"
    path.write_text(TEMPLATE)
    return path


@pytest.fixture
def study(tmp_path):
    """Four cells of one variant; the last checkpoint is the reference."""
    root = tmp_path / "runs" / "s"
    root.mkdir(parents=True)
    qualities = {"one": 0.5, "two": np.linspace(-1, 1, len(INSTRUCTIONS)), "three": -0.5, "reference": 0.0}
    entries = [add_cell(root, n, texts(q), tokens=i + 1) for i, (n, q) in enumerate(qualities.items())]
    write_study(root, entries)
    return root


def ids(root):
    return {cell.label: cell.cell_id for cell in cells_of(root)}


def run(root, fake, template, **more):
    settings = {"url": fake.url, "model": "judge", "template_file": template, "concurrency": 4, "timeout": 5.0}
    settings |= {"retries": 2, "backoff": 0.01, "console": Console(file=StringIO())}
    return judge(root, **(settings | more))


def scores(root):
    return json.loads((root / "judge" / "scores.json").read_text())


def table(root):
    """Return label -> metric -> value."""
    names = {cell_id: label for label, cell_id in ids(root).items()}
    return {
        names[c]: {row["metric"]: row["value"] for row in about["rows"]} for c, about in scores(root)["cells"].items()
    }


def test_win_rates_of_an_unbiased_judge(study, template):
    with FakeJudge(by_quality) as fake:
        judged = run(study, fake, template)
        assert len(fake.bodies) == 3 * 20 * 2
    expected = 100 / (1 + np.exp(-0.5))
    found = table(study)
    assert found["one"]["win_rate"] == pytest.approx(expected, abs=1e-6)
    assert found["three"]["win_rate"] == pytest.approx(100 - expected, abs=1e-6)
    assert found["two"]["win_rate"] == pytest.approx(50, abs=0.01)
    assert found["reference"] == {"win_rate": 50.0}
    assert all(abs(found[n]["position_bias"]) < 1e-6 for n in ("one", "two", "three"))
    assert (judged.cells, judged.questions, judged.asked, judged.missing) == (3, 120, 120, 0)
    content = scores(study)
    assert read_judged(study, cells_of(study)).references == {ids(study)["reference"]}
    assert content["task"] == TASK
    assert content["judge"]["orders"] == "both"
    assert content["groups"] == [
        {"family": "m", "variant": "sft", "reference": {
            "cell_id": ids(study)["reference"], "label": "reference", "tokens": 4, "run": "m", "seed": 0,
            "selected": 1e-4, "default": True,
        }}
    ]  # fmt: skip


def test_documents_are_those_of_the_scores(study, template):
    with FakeJudge(lambda messages: by_quality(messages, bias=0.4)) as fake:
        run(study, fake, template)
    cell = ids(study)["two"]
    frame = pd.read_parquet(study / "judge" / "documents" / f"{cell}.parquet")
    assert list(frame.columns) == ["document", "win", "first", "second", "length", "length_difference"]
    assert frame.dtypes.astype(str).tolist() == ["int64", "float64", "float64", "float64", "int64", "int64"]
    assert frame["document"].tolist() == list(range(20))
    quality = np.round(np.linspace(-1, 1, 20), 3)
    np.testing.assert_allclose(frame["first"], 100 / (1 + np.exp(-quality - 0.4)), rtol=1e-6)
    np.testing.assert_allclose(frame["second"], 100 / (1 + np.exp(-quality + 0.4)), rtol=1e-6)
    np.testing.assert_allclose(frame["win"], (frame["first"] + frame["second"]) / 2)
    assert table(study)["two"]["win_rate"] == pytest.approx(frame["win"].mean())
    assert not (study / "judge" / "documents" / f"{ids(study)['reference']}.parquet").exists()


def test_a_biased_judge_needs_both_orders(study, template):
    """All answers equally good, and a judge that likes the first place: 50% takes both orders."""
    root = study.parent / "t"
    root.mkdir()
    entries = [add_cell(root, n, [f"[0] {n}"] * 20, tokens=i) for i, n in enumerate(["a", "reference"], start=1)]
    write_study(root, entries)
    with FakeJudge(lambda messages: by_quality(messages, bias=1.0)) as fake:
        run(root, fake, template)
        both = table(root)["a"]
        asked = len(fake.bodies)
        run(root, fake, template, orders="one")
        assert len(fake.bodies) == asked, "the one order is among the two that have been asked"
    one = table(root)["a"]
    gain = 100 / (1 + np.exp(-1)) - 50
    first = sum(shown_first(i, "one")[0] for i in INSTRUCTIONS)
    assert first != 10
    assert both["win_rate"] == pytest.approx(50, abs=1e-6)
    assert both["position_bias"] == pytest.approx(gain, abs=1e-6)
    assert one["win_rate"] == pytest.approx(50 + gain * (first - (20 - first)) / 20, abs=1e-6)
    assert one["position_bias"] == pytest.approx(gain, abs=1e-6)
    assert scores(root)["judge"]["orders"] == "one"


def test_equal_answers_are_half_a_win_and_nobody_is_asked(study, template):
    root = study.parent / "t"
    root.mkdir()
    same = texts(0.0)
    write_study(
        root, [add_cell(root, "a", [*same[:15], *texts(9.0)[15:]], tokens=1), add_cell(root, "r", same, tokens=2)]
    )
    with FakeJudge(by_quality) as fake:
        judged = run(root, fake, template)
        assert len(fake.bodies) == 10 == judged.questions
    assert table(root)["a"]["win_rate"] == pytest.approx((15 * 50 + 5 * 100 / (1 + np.exp(-9))) / 20)
    assert scores(root)["cells"][ids(root)["a"]]["equal"] == 15


def test_questions_of_one_instruction_come_together(study, template):
    with FakeJudge(by_quality) as fake:
        run(study, fake, template, concurrency=1)
        seen = [shown(b["messages"]) for b in fake.bodies]
    order = [instruction for instruction, _, _ in seen]
    assert order == [i for i in INSTRUCTIONS for _ in range(6)]
    for start in range(0, 120, 6):  # the three with the reference first share the longest prefix
        assert [first == "[0.000] some answer" for _, first, _ in seen[start : start + 3]] == [True] * 3


def test_a_second_run_asks_nothing(study, template):
    with FakeJudge(by_quality) as fake:
        run(study, fake, template)
        before = (study / "judge" / "scores.json").read_bytes()
        again = run(study, fake, template)
        assert len(fake.bodies) == 120
    assert again.asked == 0
    assert (study / "judge" / "scores.json").read_bytes() == before


def test_another_reference_asks_only_what_is_new(study, template):
    """Against ``one``: two and three are new pairs; one against the old reference is known, in the other role."""
    with FakeJudge(by_quality) as fake:
        run(study, fake, template)
        judged = run(study, fake, template, reference="one")
        assert len(fake.bodies) == 120 + 2 * 20 * 2
    assert judged.asked == 80
    found = table(study)
    assert found["one"] == {"win_rate": 50.0}
    assert found["reference"]["win_rate"] == pytest.approx(100 / (1 + np.exp(0.5)), abs=1e-6)
    assert scores(study)["groups"][0]["reference"]["label"] == "one"
    assert {p.stem for p in (study / "judge" / "documents").iterdir()} == set(ids(study).values()) - {ids(study)["one"]}


def test_a_new_cell_asks_only_its_own_questions(study, template):
    with FakeJudge(by_quality) as fake:
        run(study, fake, template)
        entries = [add_cell(study, "zero", texts(2.0), tokens=0), *cells_of(study)]
        write_study(study, entries)
        assert run(study, fake, template).asked == 40


def test_a_server_that_is_down_at_the_start(study, template):
    with FakeJudge() as fake:
        pass
    with pytest.raises(JudgeError, match="no model server answers at"):
        run(study, fake, template)
    assert not (study / "judge" / "scores.json").exists()


def test_a_judge_killed_at_half_loses_no_preference(study, template):
    undisturbed = study.parent / "u"
    undisturbed.mkdir()
    for cell in cells_of(study):
        Store(undisturbed).folder(cell.cell_id).symlink_to(study / cell.cell_id)
    (undisturbed / "study.json").write_text((study / "study.json").read_text())
    with FakeJudge(by_quality) as fake:
        run(undisturbed, fake, template)
    answered = []

    def opinion(messages):
        answered.append(messages)
        return by_quality(messages)

    with FakeJudge(opinion, fault=lambda number, _: "die" if number == 60 else None) as fake:
        with pytest.raises(JudgeError, match=r"is gone(.|\n)*\n(\d+) of 120 questions are settled so far") as caught:
            run(study, fake, template)
        given = len(answered)
        settled = int(re.search(r"(\d+) of 120", str(caught.value)).group(1))
        assert given - 4 <= settled <= given
        assert not (study / "judge" / "scores.json").exists()
        fake.fault = lambda number, _: None
        fake.start()
        judged = run(study, fake, template)
    assert judged.asked == 120 - settled
    assert scores(study) == scores(undisturbed)


def test_a_killed_process_loses_half_a_second(study, template):
    """The client is killed with -9; what it asked half a second before is not asked again."""

    def slow(number, _):
        time.sleep(0.03)

    with FakeJudge(by_quality, fault=slow) as fake:
        process = subprocess.Popen([sys.executable, "-c", KILLED, study, fake.url, template], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(fake.bodies) < 80 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        asked = len(fake.bodies)
        assert 80 <= asked < 120
        fake.fault = lambda number, _: None
        judged = run(study, fake, template)
    kept = 120 - judged.asked
    assert asked - kept <= 1.0 / 0.03 + 2  # half a second, and as much again for a busy machine
    assert kept >= 40
    assert table(study)["one"]["win_rate"] == pytest.approx(100 / (1 + np.exp(-0.5)), abs=1e-6)


def test_two_processes_may_judge_at_once(study, template):
    with FakeJudge(by_quality) as fake:
        started = [
            subprocess.Popen([sys.executable, "-c", KILLED, study, fake.url, template], stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        assert [p.communicate(timeout=60)[1] and p.returncode for p in started] == [0, 0]
        assert run(study, fake, template).asked == 0
    assert table(study)["two"]["win_rate"] == pytest.approx(50, abs=0.01)


def test_few_missing_items_are_counted_and_left_out(study, template):
    def fault(_, body):
        instruction, first, _ = shown(body["messages"])
        if instruction == "Instruction 3" and "[0.500]" in first:
            return failure(400, "This model's maximum context length is 4096 tokens")
        return None

    with FakeJudge(by_quality, fault=fault) as fake:
        judged = run(study, fake, template, max_missing=0.05)
    about = scores(study)["cells"][ids(study)["one"]]
    assert judged.missing == 1
    assert (about["documents"], about["missing"], about["missing_by_reason"]) == (20, 1, {"context": 1})
    assert table(study)["one"]["win_rate"] == pytest.approx(100 / (1 + np.exp(-0.5)), abs=1e-6)
    frame = pd.read_parquet(study / "judge" / "documents" / f"{ids(study)['one']}.parquet")
    assert frame["document"].tolist() == [n for n in range(20) if n != 3]


def test_too_many_missing_items_are_an_error_and_not_an_average(study, template):
    def fault(_, body):
        instruction, *answers = shown(body["messages"])
        bad = instruction in {"Instruction 3", "Instruction 4"} and any("[0.500]" in text for text in answers)
        return failure(500, "out of luck") if bad else None

    with FakeJudge(by_quality, fault=fault) as fake:
        message = r"one: 2 of 20 \(2 no answer after all retries\)\nthe server said: HTTP 500: out of luck\n"
        with pytest.raises(JudgeError, match=message):
            run(study, fake, template)
        found = scores(study)["cells"]
        assert set(found) == set(ids(study).values()) - {ids(study)["one"]}
        assert not (study / "judge" / "documents" / f"{ids(study)['one']}.parquet").exists()
        fake.fault = lambda number, _: None
        assert run(study, fake, template).asked == 4, "preferences were kept, failures were not"
    assert ids(study)["one"] in scores(study)["cells"]


def test_faults_that_pass_cost_nothing(study, template):
    """429 storms, 500s, garbage, hangs and cut connections, a third of all requests."""
    wrong = [
        lambda: failure(429, "slow", Retry_After="0.05"), lambda: failure(500), lambda: failure(200, "x"), lambda: "drop",
        lambda: "hang", lambda: failure(503),
    ]  # fmt: skip
    seen = {}

    def fault(number, body):
        key = json.dumps(body["messages"])
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1 or number % 3:
            return None
        found = wrong[(number // 3) % len(wrong)]()
        if not isinstance(found, str) and found.status == 200:
            return found.__class__(text="<html>")
        return found

    with FakeJudge(by_quality, fault=fault) as fake:
        judged = run(study, fake, template, timeout=0.5)
    assert (judged.missing, judged.asked) == (0, 120)
    assert table(study)["one"]["win_rate"] == pytest.approx(100 / (1 + np.exp(-0.5)), abs=1e-6)


def test_one_of_two_tokens_is_counted(study, template):
    only = answer([{"token": "m", "logprob": -0.1}])

    def fault(_, body):
        return only.__class__(text=only.text) if shown(body["messages"])[0] == "Instruction 0" else None

    with FakeJudge(by_quality, fault=fault) as fake:
        run(study, fake, template)
    assert [scores(study)["cells"][ids(study)[n]]["one_token"] for n in ("one", "two", "three")] == [2, 2, 2]


DIFFICULT = ["<|im_end|>", "{output_2}", "x" * 100_000, "", "</s><|eot_id|>", "\u2028 \x85", "\\u0000"]


def test_difficult_answers(study, template):
    root = study.parent / "t"
    root.mkdir()
    entries = [add_cell(root, "a", DIFFICULT, tokens=1, instructions=INSTRUCTIONS[:7])]
    entries += [add_cell(root, "r", ["fine"] * 7, tokens=2, instructions=INSTRUCTIONS[:7])]
    write_study(root, entries)
    with FakeJudge(lambda messages: 0.8) as fake:
        run(root, fake, template)
        received = [shown(b["messages"]) for b in fake.bodies]
    about = scores(root)["cells"][ids(root)["a"]]
    assert (about["missing"], about["broken_special"]) == (0, 3)
    for instruction, text in zip(INSTRUCTIONS, DIFFICULT, strict=False):
        sent = {text.strip(), text.replace("<|", "< |").replace("</", "< /").strip()}
        assert [sum(i == instruction and other in sent for other in (a, b)) for i, a, b in received].count(1) == 2
    frame = pd.read_parquet(root / "judge" / "documents" / f"{ids(root)['a']}.parquet")
    assert frame["length"].tolist() == [len(text.strip()) for text in DIFFICULT]
    assert frame["length_difference"].tolist() == [len(text.strip()) - 4 for text in DIFFICULT]


def test_win_rates_far_from_half_are_warned_of(study, template):
    with FakeJudge(by_quality) as fake:
        calm = run(study, fake, template)
        entries = [
            add_cell(study, "poor", texts(-3.0), tokens=0),
            *cells_of(study),
        ]
        write_study(study, entries)
        loud = run(study, fake, template)
    assert not calm.saturated
    assert loud.saturated == ["poor: 4.7%"]
    assert any("win rates of 1 cells lie outside 20-80% (poor: 4.7%)" in s for s in loud.sentences())
    assert loud.sentences()[-1].startswith("4 cells scored; 40 of 160 questions asked now, 0 items missing; ")


def test_cells_without_answers_wait(study, template):
    entries = cells_of(study)
    late = dataclasses.replace(entries[0], key="late", label="late", cell_id="0" * 64, seed=7)
    write_study(study, [late, *entries])
    with FakeJudge(by_quality) as fake:
        judged = run(study, fake, template)
    assert judged.waiting == ["late"]
    assert judged.cells == 3
    assert "1 cells have no answers yet (late); run the study, then judge again" in judged.sentences()[0]


def test_nothing_to_judge(tmp_path, template):
    with FakeJudge() as fake:
        with pytest.raises(StoreError, match="there is no study in"):
            run(tmp_path, fake, template)
        write_study(tmp_path, [])
        with pytest.raises(ConfigError, match=f"no tuned cell has the task {TASK}"):
            run(tmp_path, fake, template)
        write_study(tmp_path, [add_cell(tmp_path, "only", texts(0), tokens=1)])
        with pytest.raises(ConfigError, match="a reference and one more cell must be finished"):
            run(tmp_path, fake, template)
        with pytest.raises(ConfigError, match=r"max_missing=5: .*0\.01 for 1%"):
            run(tmp_path, fake, template, max_missing=5)


def test_answers_to_other_instructions_are_refused(study, template):
    entries = cells_of(study)
    other = [*INSTRUCTIONS[:-1], "Something else"]
    write_study(study, [add_cell(study, "x", texts(0.1), tokens=0, instructions=other), *entries])
    with (
        FakeJudge(by_quality) as fake,
        pytest.raises(DataError, match="x and its reference reference answered different"),
    ):
        run(study, fake, template)
    fewer = add_cell(study, "y", ["a", "b"], tokens=0, instructions=INSTRUCTIONS[:2])
    write_study(study, [fewer, *entries])
    with FakeJudge(by_quality) as fake, pytest.raises(DataError, match="y and its reference"):
        run(study, fake, template)


def test_damaged_answers_are_said(study, template):
    cell = ids(study)["one"]
    path = study / cell / f"samples_{TASK}.jsonl"
    path.write_bytes(path.read_bytes().replace(b"some answer", b"some_answer"))
    with FakeJudge(by_quality) as fake, pytest.raises(StoreError, match="is not what was written"):
        run(study, fake, template)


def test_progress_in_lines_where_there_is_no_terminal(study, template):
    out = StringIO()
    with FakeJudge(by_quality) as fake:
        run(study, fake, template, console=Console(file=out, width=200))
    assert "[120/120] 120 asked" in out.getvalue()


def test_sampled_preferences_and_log_probabilities_are_kept_apart(study, template):
    """Each backend and each number of samples asks all its own questions, once; scores.json says how they were asked."""
    with FakeJudge(by_quality) as fake:
        exact = run(study, fake, template)
        both = table(study)["one"]["win_rate"]
        asked = [run(study, fake, template, backend="sampled", samples=n).asked for n in (4, 40, 4)]
        assert run(study, fake, template).asked == 0
        assert table(study)["one"]["win_rate"] == both
        run(study, fake, template, backend="sampled", samples=40)
    assert (exact.asked, asked) == (120, [120, 120, 0])
    judge, cell = scores(study)["judge"], scores(study)["cells"][ids(study)["one"]]
    assert (judge["backend"], judge["samples"], judge["both_tokens"]) == ("sampled", 40, None)
    assert (cell["questions"], cell["samples"]) == (40, 1600)
    assert table(study)["one"]["win_rate"] == pytest.approx(both, abs=100 / 40)  # the fake draws evenly


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backend": "sample"}, "backend='sample': must be one of logprobs, sampled; did you mean 'sampled'"),
        ({"samples": 4}, "samples=4: only the backend sampled takes samples"),
        ({"backend": "sampled", "samples": 0}, "samples=0: must be at least 1"),
    ],
)
def test_backends_that_make_no_sense_are_refused(study, template, given, message):
    with FakeJudge() as fake, pytest.raises(ConfigError, match=re.escape(message)):
        run(study, fake, template, **given)
    assert not fake.bodies


def test_the_studys_file_names_the_backend_and_the_command_takes_precedence(study, template):
    with FakeJudge(by_quality) as fake:
        settings = JudgeSettings(url=fake.url, model="judge", backend="sampled", samples=4)
        write_study(study, cells_of(study), judge=settings)
        judge_study(study, {"samples": None, "template_file": template})
        assert scores(study)["judge"]["samples"] == 4
        judge_study(study, {"backend": "logprobs", "template_file": template})
    assert (scores(study)["judge"]["backend"], scores(study)["judge"]["samples"]) == ("logprobs", None)
