"""Loading: sources, detection, checks, limits, splits and the hash."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
from itertools import pairwise

import pytest

from model_wrappers.errors import ConfigError, DataError
from model_wrappers.training.data import NAMED_SETS, DataSpec, load_examples
from model_wrappers.training.formats import FORMATS
from model_wrappers.training.templates import TEMPLATES


def write(path, rows):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def numbered(path, count):
    return write(path, [{"prompt": f"p{i}", "completion": f" c{i}"} for i in range(count)])


def prompts(examples):
    return [int(e.segments[0].text[1:]) for e in examples]


# Real rows


@pytest.mark.parametrize(
    ("name", "rows", "template"),
    [("alpaca", 5000, "alpaca"), ("dolly", 2000, "alpaca"), ("gsm8k", 2000, "qa")],
)
def test_named_sets_read_every_row_of_the_mirror(real_data, monkeypatch, name, rows, template):
    monkeypatch.setenv("OVERTRAIN_DATA", str(real_data))
    loaded = load_examples(DataSpec(data=name))
    raw = read(real_data / name / "train.jsonl")
    assert loaded.rows_read == len(raw) == rows
    assert loaded.rows_dropped == {}
    assert (loaded.format, loaded.template) == (name, template)
    assert len(loaded.validation) == round(0.02 * rows)
    assert len(loaded.train) == rows - len(loaded.validation)
    assert loaded.source == str(real_data / name / "train.jsonl")
    answer = {"alpaca": "output", "dolly": "response", "gsm8k": "answer"}[name]
    lead = " " if template == "qa" else ""
    targets = [e.segments[-1].text for e in loaded.train + loaded.validation]
    assert sorted(targets) == sorted(lead + row[answer] for row in raw)
    question = {"alpaca": "instruction", "dolly": "instruction", "gsm8k": "question"}[name]
    assert all(any(row[question] in e.segments[0].text for e in loaded.train + loaded.validation) for row in raw[:50])


def test_hh_counts_agree_with_an_independent_recount(real_data, monkeypatch, caplog):
    monkeypatch.setenv("OVERTRAIN_DATA", str(real_data))
    with caplog.at_level(logging.WARNING):
        loaded = load_examples(DataSpec(data="anthropic_hh_harmless", template="hh", validation_fraction=0))
    assert len([r for r in caplog.records if "only split, 'test'" in r.getMessage()]) == 1
    chosen = [row["chosen"] for row in read(real_data / "hh_rlhf_harmless/test.jsonl")]
    answered = [c for c in chosen if c.rstrip().rfind("\n\nAssistant:") > c.rstrip().rfind("\n\nHuman:")]
    filled = [c for c in answered if not c.rstrip().endswith("\n\nAssistant:")]
    assert len(chosen) == loaded.rows_read == 2312
    assert loaded.rows_dropped == {"empty target": len(chosen) - len(filled)} == {"empty target": 4}
    assert len(loaded.train) == len(filled) == 2308
    neighbours = 0
    for text, example in zip(filled, loaded.train, strict=True):
        roles = re.findall(r"\n\n(Human|Assistant):", text)
        if any(a == b for a, b in pairwise(roles)):
            neighbours += 1
            continue
        prompt, target = example.segments  # one target, the last turn; everything before it is context
        cut = text.rindex("\n\nAssistant:") + len("\n\nAssistant:")
        assert (prompt.target, target.target) == (False, True)
        assert target.text == " " + text[cut:].strip()
        assert prompt.text.split() == text[:cut].split()
    assert neighbours == 8


def test_hub_id_of_a_named_set_reads_its_mirror_too(real_data, monkeypatch):
    monkeypatch.setenv("OVERTRAIN_DATA", str(real_data))
    by_id = load_examples(DataSpec(data="openai/gsm8k", data_config="main", data_split="test"))
    by_file = load_examples(DataSpec(data=str(real_data / "gsm8k/test.jsonl")))
    assert by_id.hash == by_file.hash
    assert by_id.rows_read == 500


def test_a_part_of_a_data_set_is_not_taken_for_the_whole(real_data, tmp_path, monkeypatch):
    (tmp_path / "hh_rlhf_harmless").symlink_to(real_data / "hh_rlhf_harmless")
    monkeypatch.setenv("OVERTRAIN_DATA", str(tmp_path))
    for whole in ("anthropic_hh", "Anthropic/hh-rlhf"):
        with pytest.raises(DataError, match=r"no hh.rlhf, only hh_rlhf_harmless, .*give data=anthropic_hh_harmless"):
            load_examples(DataSpec(data=whole))
    part = load_examples(DataSpec(data="anthropic_hh_harmless", validation_fraction=0))
    (tmp_path / "hh_rlhf").symlink_to(real_data / "hh_rlhf_harmless")  # whatever lies there is the user's word
    assert load_examples(DataSpec(data="anthropic_hh", validation_fraction=0)).hash == part.hash


# Sources


def test_the_same_rows_in_every_container_have_one_hash(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}]}
        for i in range(7)
    ]
    lines = write(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "lines.json").write_text((tmp_path / "a.jsonl").read_text())
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    shards = tmp_path / "folder"
    shards.mkdir()
    pq.write_table(pa.Table.from_pylist(rows[:3]), shards / "train-00000-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(rows[3:]), shards / "train-00001-of-00002.parquet")
    write(shards / "test.jsonl", rows[:1])
    sources = [lines, *(str(tmp_path / n) for n in ("a.json", "lines.json", "a.parquet")), str(shards)]
    loaded = [load_examples(DataSpec(data=source)) for source in sources]
    assert {one.rows_read for one in loaded} == {7}
    assert len({one.hash for one in loaded}) == 1


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n\n{"text": "b"}\n\n')
    assert load_examples(DataSpec(data=str(path))).rows_read == 2


@pytest.mark.parametrize("name", sorted(NAMED_SETS))
def test_named_sets_ask_the_hub_for_their_entry(monkeypatch, name):
    import datasets

    rows = {
        "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        "hh": {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": ""},
        "alpaca": {"instruction": "q", "input": "", "output": "a", "text": "q a"},
        "dolly": {"instruction": "q", "context": "", "response": "a", "category": "x"},
        "gsm8k": {"question": "q", "answer": "a"},
    }
    entry, asked = NAMED_SETS[name], []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_list([rows[entry.format]] * 3)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    loaded = load_examples(DataSpec(data=name))
    part = {"data_dir": entry.part} if entry.part else {}
    assert asked == [((entry.hub, entry.config), {"split": "train"} | part)]
    assert (loaded.format, loaded.template, loaded.citation) == (entry.format, entry.template, entry.citation)
    assert len(loaded.train) + len(loaded.validation) == loaded.rows_read == 3


def test_every_named_set_and_format_points_at_what_exists():
    assert all(entry.format in FORMATS and entry.template in TEMPLATES for entry in NAMED_SETS.values())
    assert all(form.template in TEMPLATES for form in FORMATS.values())
    assert NAMED_SETS["tulu"].limit == 200_000


def test_published_rows_with_a_blank_field_are_dropped_and_own_rows_are_refused(tmp_path, monkeypatch):
    rows = [{"instruction": f"q{i}", "input": "", "output": "a" if i else " "} for i in range(3)]
    (tmp_path / "alpaca").mkdir()
    path = write(tmp_path / "alpaca/train.jsonl", rows)
    monkeypatch.setenv("OVERTRAIN_DATA", str(tmp_path))
    loaded = load_examples(DataSpec(data="alpaca", validation_fraction=0))
    assert (len(loaded.train), loaded.rows_dropped, loaded.rows_read) == (2, {"empty field": 1}, 3)
    with pytest.raises(
        DataError, match=r"train\.jsonl: 1 malformed row of format 'alpaca'.*line 1: field 'output' is empty"
    ):
        load_examples(DataSpec(data=path))


def test_named_limit_applies_and_data_limit_overrides_it(tmp_path, monkeypatch):
    import dataclasses

    from model_wrappers.training import rows as module

    (tmp_path / "gsm8k").mkdir()
    write(tmp_path / "gsm8k/train.jsonl", [{"question": f"q{i}", "answer": "a"} for i in range(20)])
    monkeypatch.setenv("OVERTRAIN_DATA", str(tmp_path))
    monkeypatch.setitem(module.NAMED_SETS, "gsm8k", dataclasses.replace(NAMED_SETS["gsm8k"], limit=5))
    kept = [
        len(loaded.train)
        for n in (None, 8, 100)
        if (loaded := load_examples(DataSpec(data="gsm8k", data_limit=n, validation_fraction=0)))
    ]
    assert kept == [5, 8, 20]


# Limits, splits, hash


def test_limit_is_the_stated_sample_in_source_order(tmp_path):
    path = numbered(tmp_path / "a.jsonl", 100)
    loaded = load_examples(DataSpec(data=path, data_limit=30, data_seed=7, validation_fraction=0))
    assert prompts(loaded.train) == sorted(random.Random(7).sample(range(100), 30))
    assert (loaded.rows_read, loaded.rows_unused) == (100, 70)


def test_limit_counts_usable_rows(tmp_path):
    rows = [{"chosen": "\n\nHuman: q" + ("\n\nAssistant: a" if i % 2 else "")} for i in range(20)]
    loaded = load_examples(DataSpec(data=write(tmp_path / "a.jsonl", rows), data_limit=9, validation_fraction=0))
    assert len(loaded.train) == 9
    assert loaded.rows_dropped == {"no assistant turn": 10}


@pytest.mark.parametrize(
    ("count", "fraction", "size"),
    [(100, 0.02, 2), (10, 0.02, 1), (2, 0.9, 1), (1, 0.5, 0), (100, 0.0, 0), (4000, 0.5, 1000)],
)
def test_validation_size(tmp_path, count, fraction, size):
    loaded = load_examples(DataSpec(data=numbered(tmp_path / "a.jsonl", count), validation_fraction=fraction))
    assert len(loaded.validation) == size
    assert sorted(prompts(loaded.train) + prompts(loaded.validation)) == list(
        range(count)
    )  # disjoint, and nothing lost
    assert prompts(loaded.train) == sorted(prompts(loaded.train))


def test_split_and_hash_depend_on_the_seed_and_repeat(tmp_path):
    path = numbered(tmp_path / "a.jsonl", 50)
    first, again, other = (load_examples(DataSpec(data=path, data_seed=s, validation_fraction=0.2)) for s in (0, 0, 1))
    assert first == again
    assert prompts(first.validation) != prompts(other.validation)
    assert first.hash != other.hash


def test_hash_is_that_of_the_canonical_json(tmp_path):
    loaded = load_examples(DataSpec(data=numbered(tmp_path / "a.jsonl", 5), validation_fraction=0.4))
    plain = {
        name: [[[s.text, s.target, s.special] for s in e.segments] for e in getattr(loaded, name)]
        for name in ("train", "validation")
    }
    assert len(plain["validation"]) == 2
    assert loaded.hash == hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def test_describe_is_json_without_the_rows(tmp_path):
    loaded = load_examples(DataSpec(data=numbered(tmp_path / "a.jsonl", 5)))
    told = json.loads(json.dumps(loaded.describe()))
    assert (told["train_rows"], told["validation_rows"], told["format"]) == (4, 1, "prompt_completion")
    assert told["template_text"]["name"] == "plain"
    assert "train" not in told


# Bad input


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"prompt": "a", "completion"', "not valid JSON"),
        ('["a"]', "a row must be a JSON object of fields, not list"),
        ("[" * 100_000, "not valid JSON"),
        ({"prompt": "a"}, "field 'completion' is missing (fields here: 'prompt')"),
        ({"prompt": "a", "completion": "  "}, "field 'completion' is empty"),
        ({"prompt": "a", "completion": None}, "field 'completion' is null"),
        ({"prompt": ["a"], "completion": "b"}, "field 'prompt' is of type list"),
        ('{"prompt": "\\ud800", "completion": "b"}', "field 'prompt' is not valid Unicode"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path, bad, message):
    good = {"prompt": "a", "completion": "b"}
    path = write(tmp_path / "mine.jsonl", [good, good, bad, good])
    with pytest.raises(DataError) as caught:
        load_examples(DataSpec(data=path))
    assert path in str(caught.value)
    assert f"line 3: {message}" in str(caught.value)
    assert "nothing was trained" in str(caught.value)


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(DataError, match="line 2: not valid JSON: 'utf-8' codec"):
        load_examples(DataSpec(data=str(path)))


def test_malformed_rows_are_looked_for_to_the_end_even_where_a_limit_would_leave_them_out(tmp_path):
    rows = [{"text": "fine"}] * 50 + [{"text": 1}] * 7
    with pytest.raises(DataError, match=r"7 malformed rows.*line 51: .*line 55: .*and 2 more"):
        load_examples(DataSpec(data=write(tmp_path / "a.jsonl", rows), data_limit=1))


def test_parquet_rows_are_named_by_number(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a", None, "c"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 2: field 'text' is null"):
        load_examples(DataSpec(data=str(tmp_path / "a.parquet")))
    (tmp_path / "b.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load_examples(DataSpec(data=str(tmp_path / "b.parquet")))


def test_a_json_array_that_is_cut_off(tmp_path):
    (tmp_path / "a.json").write_text('[{"text": "a"}, ')
    with pytest.raises(DataError, match="not valid JSON"):
        load_examples(DataSpec(data=str(tmp_path / "a.json")))


@pytest.mark.parametrize("data_format", ["auto", "text"])
def test_no_row_at_all(tmp_path, data_format):
    with pytest.raises(DataError, match="holds no row"):
        load_examples(DataSpec(data=write(tmp_path / "a.jsonl", ["", ""]), data_format=data_format))


def test_no_row_left_says_why(tmp_path):
    rows = [
        {"chosen": "\n\nHuman: q"},
        {"chosen": "\n\nHuman: q\n\nAssistant: "},
        {"chosen": ""},
        {"chosen": "no turns"},
    ]
    with pytest.raises(
        DataError, match=r"none of the 4 rows.*2 empty target, 1 no assistant turn, 1 text before the first turn"
    ):
        load_examples(DataSpec(data=write(tmp_path / "a.jsonl", rows)))


def test_fields_that_fit_no_format_list_the_formats(tmp_path):
    with pytest.raises(DataError, match=r"line 1: the fields 'q', 'a' fit no data format .*gsm8k: question, answer"):
        load_examples(DataSpec(data=write(tmp_path / "a.jsonl", [{"q": "a", "a": "b"}])))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"data": "alpacca"},
            r"data=.alpacca.: unknown data set; did you mean .alpaca.\? \(named sets: anthropic_hh, anthropic_hh_harmless",
        ),
        ({"data": " "}, r"data=' ': give a named set"),
        ({"data": "gsm8k", "data_format": "alpacca"}, r"data_format='alpacca': unknown; did you mean 'alpaca'"),
        ({"data": "gsm8k", "template": "tullu"}, r"template='tullu': unknown; did you mean 'tulu'"),
        ({"data": "gsm8k", "template": "chat"}, "give the tokenizer"),
        ({"data": "gsm8k", "data_limit": 0}, "data_limit=0: must be at least 1"),
        ({"data": "gsm8k", "data_seed": -1}, "data_seed=-1"),
        ({"data": "gsm8k", "validation_fraction": 1.0}, "validation_fraction=1.0"),
    ],
)
def test_bad_arguments(given, message):
    with pytest.raises(ConfigError, match=message):
        load_examples(DataSpec(**given))


@pytest.mark.parametrize("data", ["none.jsonl", "./alpaca", "a/b/c", "org/none.parquet"])
def test_a_missing_file_is_not_looked_for_on_the_hub(data):
    with pytest.raises(DataError, match="no such file or folder"):
        load_examples(DataSpec(data=data))


def test_missing_split_lists_those_that_are_there(tmp_path):
    for split in ("dev", "test"):
        numbered(tmp_path / f"{split}.jsonl", 2)
    with pytest.raises(ConfigError, match=r"data_split='train'.*\(splits there: dev, test\)"):
        load_examples(DataSpec(data=str(tmp_path)))


def test_mirror_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("OVERTRAIN_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"OVERTRAIN_DATA=.*not a folder"):
        load_examples(DataSpec(data="gsm8k"))


def test_wrong_kind_of_file(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(ConfigError, match=r"must end in one of \.jsonl"):
        load_examples(DataSpec(data=str(tmp_path / "a.csv")))


def test_hub_failure_names_the_remedy(monkeypatch):
    import datasets

    def load_dataset(*args, **kwargs):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"data='org/set'.*Couldn't reach the Hub; check .* OVERTRAIN_DATA"):
        load_examples(DataSpec(data="org/set"))


def test_text_rows_take_no_template_and_single_turn_templates_no_dialogue(tmp_path):
    text = write(tmp_path / "t.jsonl", [{"text": "a"}])
    with pytest.raises(ConfigError, match="'text' have no turns"):
        load_examples(DataSpec(data=text, template="tulu"))
    turns = [{"role": r, "content": "x"} for r in ("user", "assistant", "user", "assistant")]
    chat = write(tmp_path / "m.jsonl", [{"messages": turns[:2]}, {"messages": turns}])
    with pytest.raises(ConfigError, match="line 2: template='alpaca' holds one user turn"):
        load_examples(DataSpec(data=chat, template="alpaca"))
