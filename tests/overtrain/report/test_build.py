"""The page: what is on it, that its numbers are the frames', and that names in it are inert."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from model_wrappers.errors import DataError
from overtrain.analysis.compare import compare
from overtrain.report.build import build, report

HOSTILE = "</style><script>document.title='pwned'</script>"
HOSTILE_VARIANT = "<img src=x onerror=document.title='pwned'> $\\frac{1"


class Page(HTMLParser):
    """Tags with attributes, text, and the rows of every table by its heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.text, self.tables = [], [], {}
        self._heading, self._row, self._cell, self._place = "", None, None, None
        self.feed(text)
        self.words = re.sub(r"\s+", " ", " ".join(self.text))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in {"h3", "summary"}:
            self._heading, self._place = "", tag
        if tag == "tr":
            self._row = []
        if tag in {"td", "th"}:
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in {"td", "th"}:
            self._row.append(self._cell)
            self._cell = None
        if tag == "tr":
            self.tables.setdefault(re.sub(r" \(\d+ rows\)$", "", self._heading), []).append(self._row)
        if tag in {"h3", "summary"}:
            self._place = None

    def handle_data(self, data):
        self.text.append(data)
        if self._place:
            self._heading += data
        if self._cell is not None:
            self._cell += data

    def table(self, heading: str) -> list[dict[str, str]]:
        head, *rows = self.tables[heading]
        return [dict(zip(head, row, strict=True)) for row in rows]


def sections(page: Page) -> set[str]:
    return {attrs["id"] for tag, attrs in page.tags if tag == "section"}


@pytest.fixture(autouse=True)
def _svg_only(monkeypatch):
    """The module's study is drawn in all formats; the others need one, and are three times as fast."""
    monkeypatch.setattr("overtrain.report.files.FORMATS", ("svg",))


@pytest.fixture(scope="module")
def built(make_record, make_study, primary, tmp_path_factory):
    """The U-shaped study: its page, its frames, its folder."""
    frame, documents = make_study("u")
    out = tmp_path_factory.mktemp("report")
    path = build(frame, documents, out, study=make_record(name="u-study", primary=primary), published=True)
    return Page(path.read_text("utf-8")), frame, documents, out


def test_every_part_is_there(built):
    page, _, _, out = built
    wanted = {"published", "benchmarks", "noise", "finetune", "tuned", "optima", "distance", "verdicts", "trends"}
    wanted |= {"comparisons", "transitions", "shares", "confounds", "missing", "cells", "made"}
    assert sections(page) >= wanted
    figures = [attrs["id"].removeprefix("fig-") for tag, attrs in page.tags if tag == "figure"]
    for start in (
        "figure-2",
        "figure-3",
        "figure-4-5",
        "figure-6",
        "figure-7",
        "figure-8",
        "transitions",
        "variance",
        "confounds",
    ):
        assert any(name.startswith(start) for name in figures), start
    for name in figures:
        assert {p.suffix for p in (out / "figures").glob(f"{name}.*")} == {".svg", ".pdf", ".png"}
        ET.parse(out / "figures" / f"{name}.svg")
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == len(figures)
    assert all(i["alt"] and i["src"].startswith("data:image/svg+xml;base64,") for i in images)


def test_the_page_stands_alone(built):
    page, _, _, out = built
    text = (out / "index.html").read_text("utf-8")
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    assert "script" not in {tag for tag, _ in page.tags}
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert not re.match(r"(https?:)?//|file:|javascript:", attrs.get(name) or ""), (tag, attrs[name])
    assert not re.search(r"url\(|@import", text)
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert all(href[1:] in ids if href.startswith("#") else (out / href).is_file() for href in links)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_the_known_answer_is_the_headline(built):
    page, *_ = built
    top = page.words[: page.words.index("The paper's statements")]
    assert "U: nats per token on text after tuning at the tuned learning rate falls and then rises" in top
    assert "the minimum lies between 2M and 8M (95% confidence)" in top
    assert "no interval covers another pre-training" in top
    assert "One pre-training run" in top
    verdicts = {(r["curve"], r["metric"]): r["verdict"] for r in page.table("Verdicts") if r["on"] == "text"}
    assert verdicts["base model", "nll_per_token"] == "monotone"
    assert verdicts["noise, gamma 0.3", "nll_per_token"] == "U"


def test_numbers_on_the_page_are_those_of_the_frames(built):
    page, frame, documents, out = built
    verdicts = pd.read_parquet(out / "tables" / "verdicts.parquet")
    shown = [*page.table("Verdicts"), *page.table("Verdicts by benchmark")]
    assert len(shown) == len(verdicts)
    for row in verdicts.to_dict("records"):
        match = [
            r for r in shown if (r["curve"], r["on"], r["metric"]) == (row["line"], row["endpoint"], row["metric"])
        ]
        assert len(match) == 1
        assert (match[0]["verdict"], match[0]["rise T"], match[0]["critical"]) == (
            row["verdict"], f"{row['rise']:.4g}", f"{row['critical']:.4g}",
        )  # fmt: skip
    # The primary comparison, from the documents alone: every checkpoint's best rate is the middle one by construction.
    cells = frame[(frame["learning_rate"] == 3e-4) & (frame["task"] == "text")]
    long = cells.merge(documents[documents["task"] == "text"], on="cell_id", suffixes=("_cell", ""))
    long = long.rename(columns={"tokens": "budget", "value": "y"})[["budget", "run", "seed", "document", "y", "weight"]]
    truth = compare(long, 4_000_000, 16_000_000).iloc[0]
    row = next(r for r in page.table("Two checkpoints compared") if r["primary"] == "yes")
    assert (row["change"], row["95% from"], row["95% to"]) == tuple(
        f"{truth[c]:.4g}" for c in ("effect", "low", "high")
    )
    assert f"{truth['effect']:+.4g} (worse" in page.words
    rates = {r["tokens"]: r["best rate"] for r in page.table("Tuned learning rates")}
    assert set(rates.values()) == {"0.0003"}


def test_accuracies_keep_their_direction(built):
    _, frame, _, out = built
    curves = pd.read_parquet(out / "tables" / "curves.parquet")
    base = curves[(curves["line"] == "base model") & (curves["metric"] == "primary") & (curves["endpoint"] == "alpha")]
    truth = frame[(frame["variant"] == "base") & (frame["metric"] == "primary") & (frame["task"] == "alpha")]
    assert np.allclose(base["mean"], truth.sort_values("tokens")["value"])
    assert (base["low"] <= base["mean"]).all()
    assert (base["mean"] <= base["high"]).all()
    average = curves[
        (curves["line"] == "base model") & (curves["metric"] == "primary") & (curves["endpoint"] != "alpha")
    ]
    average = average[average["endpoint"].str.startswith("average")]
    both = frame[(frame["variant"] == "base") & (frame["metric"] == "primary")].groupby("tokens")["value"].mean()
    assert np.allclose(average["mean"], both)
    drop = curves[
        (curves["quantity"] == "sensitivity") & (curves["metric"] == "primary") & (curves["line"] == "noise, gamma 0.3")
    ]
    assert drop.sort_values("budget")["mean"].iloc[-1] > 0.1


def test_every_cell_is_listed(built):
    page, frame, _, out = built
    rows = page.table("Every cell")
    assert {r["cell_id"] for r in rows} == {c[:12] for c in frame["cell_id"]}
    assert {r["weights_id"] for r in rows} == {c[:12] for c in frame["weights_id"]}
    assert "lm-eval " in page.words
    assert len(pd.read_csv(out / "tables" / "cells.csv")) == frame["cell_id"].nunique()


def test_a_flat_study_says_that_it_shows_no_turn(make_record, make_study, primary, tmp_path):
    frame, documents = make_study("flat")
    page = Page(
        build(frame, documents, tmp_path, study=make_record(primary=primary, plateau_margin=0.2)).read_text("utf-8")
    )
    assert (
        "Plateau: nats per token on text after tuning at the tuned learning rate differs by less than the margin"
        in page.words
    )
    assert "At the tuned learning rate, none of 3 curves is shown to turn up to 16M tokens" in page.words
    assert "does not show the paper's effect" in page.words


def test_a_primary_comparison_at_one_rate_is_not_the_tuned_one(make_record, make_study, primary, tmp_path):
    frame, documents = make_study("u", gammas=(), tasks=())
    build(frame, documents, tmp_path, study=make_record(primary=primary | {"at": 1e-3}))
    table = pd.read_parquet(tmp_path / "tables" / "comparisons.parquet")
    assert table.loc[table["primary"], "line"].tolist() == ["tuning, learning rate 0.001"]
    assert set(table["line"]) == {f"tuning, learning rate {rate}" for rate in ("1e-4", "3e-4", "0.001")}


def test_where_nothing_grows_it_says_so(make_study, tmp_path):
    frame, documents = make_study("fall", rates=())
    page = Page(build(frame, documents, tmp_path, study=None).read_text("utf-8"))
    assert "Progressive sensitivity is not shown there." in page.words
    assert "Nothing was fine-tuned, so Figures 2 and 4 to 8 are left out." in page.words
    assert "No turn of nats per token on text after noise (tiny) is established at any of 2 settings" in page.words
    assert not sections(page) & {"tuned", "optima", "distance", "finetune", "transitions", "published"}


def test_missing_cells_are_gaps_and_are_named(make_record, make_study, lose_cells, primary, tmp_path):
    frame, documents = make_study("u")
    failed = (frame["gamma"] == 0.1) & (frame["tokens"] == 4_000_000)
    frame, documents = lose_cells(frame, documents, failed, "failed")
    one = (frame["gamma"] == 0.3) & (frame["tokens"] == 8_000_000) & (frame["seed"] == 1)
    frame, documents = lose_cells(frame, documents, one, "missing")
    last = (frame["variant"] == "tuning") & (frame["tokens"] == 16_000_000)
    frame, documents = lose_cells(frame, documents, last, "cancelled")
    page = Page(build(frame, documents, tmp_path, study=make_record(primary=primary)).read_text("utf-8"))
    curves = pd.read_parquet(tmp_path / "tables" / "curves.parquet")
    text = curves[(curves["endpoint"] == "text") & (curves["quantity"] == "value")].set_index(["line", "budget"])
    assert text.loc[("noise, gamma 0.1", 4_000_000), "gap"]
    assert np.isnan(text.loc[("noise, gamma 0.1", 4_000_000), "mean"])
    # One seed is gone at one budget: it is left out everywhere, and the curve says so.
    assert (text.loc["noise, gamma 0.3", "n_seeds"] == 2).all()
    assert "seed 1 left out" in text.loc[("noise, gamma 0.3", 8_000_000), "missing"]
    assert text.loc[("tuning, tuned learning rate", 16_000_000), "gap"]
    assert "3 failed" in page.words
    assert "9 cancelled" in page.words
    assert "Not complete: noise, gamma 0.1: 3 missing cells; budget 4000000 has no result" in page.words
    assert "16M: no learning rate has every seed's selection metric" in page.words
    assert "Primary comparison, 16M against 4M tokens, nll_per_token on text after tuning: not possible" in page.words
    states = [a.get("class") for t, a in page.tags if t == "tr" and a.get("class")]
    assert sorted(states) == ["cancelled"] * 9 + ["failed"] * 3 + ["missing"]
    assert {r["text: nll_per_token"] for r in page.table("Every cell") if r["status"] == "failed"} == {"missing"}


def test_names_are_inert(make_record, make_study, tmp_path):
    frame, documents = make_study(
        "u", name=HOSTILE, tuning=HOSTILE_VARIANT, families=("../fam</title>&\"'",), tasks=("al<b>pha", "be/ta")
    )
    named = {"task": "text", "metric": "nll_per_token", "variant": HOSTILE_VARIANT, "compare": [4_000_000, 16_000_000]}
    out = tmp_path / "deep" / "report"
    text = build(
        frame, documents, out, study=make_record(name=HOSTILE, description="{{ 7 * 7 }}", primary=named)
    ).read_text("utf-8")
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "b", "object", "iframe"}
    assert all(a["src"].startswith("data:image/svg+xml;base64,") for t, a in page.tags if t == "img")
    assert HOSTILE in page.words
    assert "{{ 7 * 7 }}" in page.words
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]
    assert [p.name for p in out.parent.iterdir()] == ["report"]
    for svg in (out / "figures").glob("*.svg"):
        names = {e.tag.rpartition("}")[2] for e in ET.parse(svg).iter() if isinstance(e.tag, str)}
        assert not names & {"script", "img", "foreignObject", "image"}, svg
        assert re.fullmatch(r"[A-Za-z0-9._-]+", svg.name)


def test_equal_frames_give_equal_files_and_stale_ones_go(make_record, make_study, primary, tmp_path, monkeypatch):
    monkeypatch.undo()
    frame, documents = make_study("u", gammas=(), tasks=())
    study = make_record(primary=primary)
    first = build(frame, documents, tmp_path, study=study)
    before = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*.*") if p.suffix != ".parquet"}
    (tmp_path / "figures" / "mine.svg").write_text("kept")
    build(frame, documents, tmp_path, study=study)
    assert all((tmp_path / p).read_bytes() == content for p, content in before.items())
    frame, documents = make_study("u", rates=(), tasks=())
    build(frame, documents, tmp_path, study=None)
    left = {p.name for p in (tmp_path / "figures").iterdir()}
    assert "mine.svg" in left
    assert not any(name.startswith("figure-6") for name in left)
    assert first.is_file()


def test_a_manifest_cannot_make_it_delete_other_files(make_study, tmp_path):
    frame, documents = make_study("fall", rates=(), gammas=(0.1,), tasks=())
    (tmp_path / "precious").write_text("x")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "files.json").write_text('{"files": ["../precious", "figures/../../precious"]}')
    build(frame, documents, tmp_path / "report", study=None)
    assert (tmp_path / "precious").read_text() == "x"


def test_without_scores_per_document_it_says_so(make_study, tmp_path):
    frame, documents = make_study("u")
    page = Page(build(frame, documents.iloc[:0], tmp_path, study=None).read_text("utf-8"))
    assert "no scores per document" in page.words
    verdicts = pd.read_parquet(tmp_path / "tables" / "verdicts.parquet")
    assert (verdicts["n_documents"] == 1).all()
    assert (verdicts.loc[verdicts["line"] == "noise, gamma 0.3", "verdict"] == "U").all()


def test_base_models_alone(make_study, tmp_path):
    frame, documents = make_study("u", rates=(), gammas=())
    page = Page(build(frame, documents, tmp_path, study=None).read_text("utf-8"))
    assert "No modified curve has a result yet" in page.words
    assert "No modified cells: the study holds base models alone." in page.words


def test_no_cell_at_all_is_an_error(make_study, tmp_path):
    frame, documents = make_study("u", rates=(), gammas=())
    with pytest.raises(DataError, match="overtrain sweep"):
        build(frame.iloc[:0], documents, tmp_path, study=None)


def test_families_are_compared_at_equal_base_loss(make_study, tmp_path):
    one, documents_one = make_study("u", families=("one",), rates=(3e-4,), tasks=())
    two, documents_two = make_study("fall", families=("two",), rates=(3e-4,), tasks=(), shift=0.1)
    page = Page(
        build(pd.concat([one, two]), pd.concat([documents_one, documents_two]), tmp_path, study=None).read_text("utf-8")
    )
    assert "matched" in sections(page)
    table = pd.read_parquet(tmp_path / "tables" / "matched.parquet")
    text = table[(table["endpoint"] == "text") & (table["line"] == "noise, gamma 0.1")]
    # The second family's noise costs 0.02 at every budget, the first one's up to 1.6: equal bases, lower loss.
    assert text.sort_values("base")["difference"].iloc[0] < -0.5


def test_the_papers_statements(make_study, built, tmp_path):
    page, *_ = built
    assert page.words.count("not measured here") == 5
    tokens = (1_501_000_000_000, 2_353_000_000_000, 3_048_000_000_000)
    frame, documents = make_study(
        "u", budgets=tokens, families=("OLMo-1B",), tuning="hh", gammas=(), data="anthropic_hh"
    )
    page = Page(build(frame, documents, tmp_path, study=None, published=True).read_text("utf-8"))
    table = pd.read_parquet(tmp_path / "tables" / "published.parquet")
    assert set(zip(table["before"], table["after"], strict=True)) == {(tokens[1], tokens[2]), (tokens[0], tokens[2])}
    row = table[(table["before"] == tokens[1]) & (table["metric"] == "primary")].iloc[0]
    assert f"{row['effect']:+.4g} ({100 * row['relative']:+.2g}%) from 2.35T to 3.05T" in page.words
    assert page.words.count("not measured here") == 2  # AlpacaEval, and the 7B models
    assert row["claim"] == "worse"


@pytest.mark.parametrize(
    ("shape", "margin", "told"),
    [
        ("flat", None, "equal within the margin of"),
        ("flat", 1e-6, "equality within the margin of 1e-06 is neither shown nor excluded"),
        ("u", None, "not equal: the difference exceeds the margin of"),
    ],
)
def test_the_level_of_another_checkpoint_is_tested_as_equality(make_record, make_study, tmp_path, shape, margin, told):
    """Neither a difference that is shown nor one that is not says that two checkpoints are equal."""
    tokens = (1_000_000_000_000, 1_501_000_000_000, 2_000_000_000_000, 2_353_000_000_000, 3_048_000_000_000)
    about = {"budgets": tokens, "families": ("OLMo-1B",), "tuning": "hh", "gammas": (), "data": "anthropic_hh"}
    about |= {"rates": (3e-4,), "documents": 160, "seeds": 6}
    frame, documents = make_study(shape, **about)
    named = {"task": "alpha", "metric": "bits_per_byte", "variant": "hh", "compare": [tokens[1], tokens[-1]]}
    study = make_record(primary=named, **({} if margin is None else {"plateau_margin": margin}))
    page = Page(build(frame, documents, tmp_path, study=study, published=True).read_text("utf-8"))
    table = pd.read_parquet(tmp_path / "tables" / "published.parquet")
    row = table[(table["claim"] == "equal") & (table["metric"] == "bits_per_byte")].iloc[0]
    assert row["margin"] == pytest.approx(margin or 0.01 * row["mean_before"])
    assert told in page.words
    assert ("the later checkpoint is worse by more than 2%, as stated" in page.words) == (shape == "u")


def test_report_reads_a_run_folder(make_record, make_study, lose_cells, make_run, primary, tmp_path):
    frame, documents = make_study("u", gammas=(0.3,), tasks=("alpha",))
    frame, documents = lose_cells(frame, documents, frame["tokens"] == 16_000_000, "failed")
    root = make_run(tmp_path / "runs" / "u", frame, documents, study={"primary": primary})
    path = report(root)
    assert path == root / "report" / "index.html"
    page = Page(path.read_text("utf-8"))
    assert "cells were evaluated with lm-eval 0.4.13, transformers 5.0" in page.words
    assert f"{(frame['tokens'] == 16_000_000).groupby(frame['cell_id']).first().sum()} failed" in page.words
    direct = build(frame, documents, tmp_path / "direct", study=make_record(primary=primary))
    a, b = (pd.read_parquet(p.parent / "tables" / "curves.parquet") for p in (path, direct))
    pd.testing.assert_frame_equal(a, b)
