"""The mirror and the hub: what is read, and what is said where it cannot be."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDataset

from model_wrappers.errors import DataError
from overtrain_tasks import data

FIELDS = ("question", "choices", "answerKey")


def read(**kwargs):
    options = {"mirror": "arc_easy", "fields": FIELDS} | kwargs
    return data.load("allenai/ai2_arc", "ARC-Easy", ["test"], **options)["test"]


def test_rows_come_in_order_with_extra_fields(mirror, arc_row):
    rows = [arc_row(n) for n in range(3)]
    mirror("arc_easy", "test", rows)
    assert read().to_list() == rows
    assert read(first=2).to_list() == rows[:2]


def test_blank_lines_are_no_rows(mirror, arc_row):
    path = mirror("arc_easy", "test", [arc_row(0)])
    path.write_text("\n" + path.read_text() + "\n\n")
    assert len(read()) == 1


def test_an_extra_field_may_change_its_type(mirror, arc_row):
    mirror("arc_easy", "test", [arc_row(0) | {"note": 1}, arc_row(1) | {"note": ["a"]}])
    assert read().column_names == list(FIELDS)


def test_parquet_equals_jsonl(mirror, arc_row):
    rows = [arc_row(n) for n in range(3)]
    path = mirror("arc_easy", "test", rows)
    from_jsonl = read().to_list()
    path.unlink()
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    assert read().to_list() == from_jsonl
    assert read(first=1).to_list() == from_jsonl[:1]


def test_parquet_tasks_build_the_same_requests(mirror, arc_row, task_manager, build):
    paths = [mirror("arc_easy", "test", [arc_row(0)]), mirror("arc_easy", "train", [arc_row(n) for n in range(1, 9)])]

    def requests():
        return build(task_manager.load(["overtrain_arc_easy"])["tasks"]["overtrain_arc_easy"])

    from_jsonl = requests()
    for path in paths:
        pq.write_table(
            pa.Table.from_pylist([json.loads(line) for line in path.read_text().splitlines()]),
            path.with_suffix(".parquet"),
        )
        path.unlink()
    assert requests() == from_jsonl


def test_no_such_root(monkeypatch, tmp_path):
    monkeypatch.setenv("OVERTRAIN_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"OVERTRAIN_DATA=.*none: not a folder.*unset OVERTRAIN_DATA"):
        read()


def test_no_such_folder_names_what_exists(mirror, arc_row):
    mirror("arc_easi", "test", [arc_row(0)])
    mirror("piqa", "test", [arc_row(0)])
    with pytest.raises(DataError, match=r"has arc_easi, piqa; did you mean 'arc_easi'\?; put <split>\.jsonl"):
        read()


def test_a_task_without_a_mirror_folder(mirror):
    with pytest.raises(DataError, match=r"allenai/ai2_arc: the task names no folder.*`mirror: NAME`"):
        read(mirror=None)


def test_no_such_split_names_what_exists(mirror, arc_row):
    mirror("arc_easy", "train", [arc_row(0)])
    mirror("arc_easy", "validation", [arc_row(0)])
    with pytest.raises(DataError, match=r"no such split, the folder has train, validation; add test\.jsonl"):
        read()
    assert data.split_names("allenai/ai2_arc", "ARC-Easy", mirror="arc_easy") == ("train", "validation")


def test_two_files_of_one_split(mirror, arc_row):
    path = mirror("arc_easy", "test", [arc_row(0)])
    path.with_suffix(".parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"both test\.jsonl and test\.parquet; remove one"):
        read()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            b'{"question": "q", "choices": []}',
            r"test\.jsonl, line 3: 'answerKey' missing, the row has choices, question",
        ),
        (b'{"question": null, "choices": [], "answerKey": "A"}', r"line 3: 'question' null"),
        (b'{"question": ', r"test\.jsonl, line 3: not valid JSON: .*; correct or remove it"),
        (b'{"question": "\xff"}', r"line 3: not valid JSON: .*utf-8"),
        (b"[1, 2]", r"line 3: a row must be a JSON object of fields, not list"),
    ],
)
def test_a_bad_line_is_named(line, message, mirror, arc_row):
    path = mirror("arc_easy", "test", [arc_row(0), arc_row(1)])
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(DataError, match=message):
        read()


def test_a_field_of_two_types(mirror, arc_row):
    mirror("arc_easy", "test", [arc_row(0), arc_row(1) | {"question": ["not", "a", "string"]}])
    with pytest.raises(DataError, match=r"test\.jsonl: a field changes its type from row to row"):
        read()


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_no_rows(content, mirror):
    mirror("arc_easy", "test", []).write_text(content)
    with pytest.raises(DataError, match=r"test\.jsonl: no rows; put at least one"):
        read()


def test_bad_parquet(mirror, arc_row):
    path = mirror("arc_easy", "test", [arc_row(0)])
    parquet = path.with_suffix(".parquet")
    path.unlink()
    parquet.write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"test\.parquet: cannot be read as Parquet"):
        read()
    pq.write_table(pa.table({"question": ["q"]}), parquet)
    with pytest.raises(DataError, match=r"test\.parquet, row 1: 'choices', 'answerKey' missing, the row has question"):
        read()
    pq.write_table(pa.table({"question": ["q", None], "choices": ["a", "b"], "answerKey": ["A", "B"]}), parquet)
    with pytest.raises(DataError, match=r"test\.parquet, row 2: 'question' null"):
        read()
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in FIELDS}), parquet)
    with pytest.raises(DataError, match=r"test\.parquet: no rows"):
        read()


def test_a_split_in_several_files(mirror, arc_row):
    rows = [arc_row(n) for n in range(5)]
    mirror("arc_easy", "test-00000-of-00002", rows[:3])
    mirror("arc_easy", "test-00001-of-00002", rows[3:])
    assert read().to_list() == rows
    assert read(first=4).to_list() == rows[:4]


def test_other_suffixes_and_missing_files(tmp_path):
    with pytest.raises(DataError, match=r"rows\.csv: must end in one of \.jsonl"):
        data.read_file(tmp_path / "rows.csv")
    with pytest.raises(DataError, match=r"rows\.jsonl: no such file"):
        data.read_file(tmp_path / "rows.jsonl")


def test_without_a_mirror_the_hub_is_asked(monkeypatch, arc_row):
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return Dataset.from_list([arc_row(0)])

    monkeypatch.setattr(data, "load_dataset", load_dataset)
    assert len(read()) == 1
    assert asked == [(("allenai/ai2_arc", "ARC-Easy"), {"split": "test"})]
    with pytest.raises(DataError, match=r"allenai/ai2_arc \(test\): no 'passage', the columns are"):
        read(fields=("passage",))


def test_the_first_documents_are_streamed(monkeypatch):
    made = []

    def documents():
        for number in range(1000):
            made.append(number)
            yield {"text": f"document {number}"}

    def load_dataset(*args, **kwargs):
        assert kwargs == {"split": "validation", "streaming": True}
        return IterableDataset.from_generator(documents)

    monkeypatch.setattr(data, "load_dataset", load_dataset)
    rows = data.load("allenai/c4", "en", ["validation"], fields=["text"], first=4)["validation"]
    assert rows["text"][:] == [f"document {number}" for number in range(4)]
    assert len(made) < 10


def test_an_unreachable_hub(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(data, "load_dataset", refuse)
    monkeypatch.setattr(data, "get_dataset_split_names", refuse)
    message = r"allenai/ai2_arc \(ARC-Easy\): cannot be read from the hub \(Couldn't reach.*OVERTRAIN_DATA"
    with pytest.raises(DataError, match=message):
        read()
    with pytest.raises(DataError, match=message):
        data.split_names("allenai/ai2_arc", "ARC-Easy")


def test_fingerprint_is_of_the_named_fields_in_order():
    rows = Dataset.from_list([{"a": 1, "b": "é"}, {"a": 2, "b": "f"}])
    more = Dataset.from_list([{"b": "é", "c": 0, "a": 1}, {"b": "f", "c": 0, "a": 2}])
    assert data.fingerprint(rows, ["a", "b"]) == data.fingerprint(more, ["b", "a"])
    assert data.fingerprint(rows, ["a", "b"]) != data.fingerprint(rows.select([1, 0]), ["a", "b"])
    assert data.fingerprint(rows, ["a"]) != data.fingerprint(rows, ["a", "b"])
