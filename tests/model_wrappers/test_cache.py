"""The weights cache: whole entries only, one builder, least recently used goes first."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

from model_wrappers.cache import META, WeightsCache
from model_wrappers.errors import StoreError


def builder(size=10, log=None):
    def build(folder, work):
        (folder / "model.safetensors").write_bytes(b"x" * size)
        (work / "state").write_text("resume me")
        if log is not None:
            log.append(folder)
        return {"checkpoint": {}, "steps": []}

    return build


def test_an_entry_is_built_once_and_found_again(tmp_path):
    cache, log = WeightsCache(tmp_path), []
    first = cache.get_or_create("a" * 64, builder(log=log))
    again = cache.get_or_create("a" * 64, builder(log=log))
    assert first == again
    assert len(log) == 1
    assert {name: first.meta[name] for name in ("checkpoint", "steps")} == {"checkpoint": {}, "steps": []}
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["a" * 64]
    assert not list(tmp_path.glob(".*.work"))


@pytest.mark.parametrize("name", ["model.safetensors", META])
@pytest.mark.parametrize("how", ["one byte", "gone", "cut"])
def test_a_damaged_entry_is_set_aside_and_made_again(tmp_path, caplog, name, how):
    cache, log = WeightsCache(tmp_path), []
    file = cache.get_or_create("a" * 64, builder(size=100, log=log)).path / name
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:50] + b"\x00" + content[51:] if how == "one byte" else content[:50])
    again = cache.get_or_create("a" * 64, builder(size=100, log=log))
    assert len(log) == 2
    assert again.damage() == ""
    assert (again.path / "model.safetensors").read_bytes() == b"x" * 100
    assert "is damaged" in caplog.text
    cache.prune(max_bytes=10**9)
    assert not list(tmp_path.glob(".*.damaged"))


@contextlib.contextmanager
def as_somebody_else():
    """Drop root's rights inside the block: root may write everywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_read_only_cache_serves_what_it_holds():
    root = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        entry = WeightsCache(root).get_or_create("a" * 64, builder())
        for path in (entry.path, root):
            path.chmod(0o555)
        with as_somebody_else():
            assert WeightsCache(root).get_or_create("a" * 64, builder()) == entry
            with pytest.raises(StoreError, match="set OVERTRAIN_CACHE"):
                WeightsCache(root).get_or_create("b" * 64, builder())
        for path in (root, entry.path):
            path.chmod(0o755)
        (entry.path / "model.safetensors").write_bytes(b"y" * 10)
        root.chmod(0o555)
        with as_somebody_else(), pytest.raises(StoreError, match=r"is damaged .*cannot be set aside .*OVERTRAIN_CACHE"):
            WeightsCache(root).get_or_create("a" * 64, builder())
    finally:
        root.chmod(0o755)
        shutil.rmtree(root)


def test_a_cache_that_is_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(StoreError, match=r"cannot write under .*cache.*; set OVERTRAIN_CACHE"):
        WeightsCache(tmp_path / "cache" / "weights").get_or_create("a" * 64, builder())


def test_a_failed_build_leaves_nothing_but_its_work(tmp_path):
    def build(folder, work):
        (folder / "half").write_bytes(b"x")
        (work / "state").write_text("step 3")
        raise RuntimeError("power cut")

    cache = WeightsCache(tmp_path)
    with pytest.raises(RuntimeError, match="power cut"):
        cache.get_or_create("b", build)
    assert cache.get("b") is None
    assert cache.entries() == []
    assert (tmp_path / ".b.work" / "state").read_text() == "step 3"


def test_what_a_killed_writer_left_is_thrown_away(tmp_path):
    (tmp_path / ".c.tmp").mkdir()
    (tmp_path / ".c.tmp" / "model.safetensors").write_bytes(b"half")
    entry = WeightsCache(tmp_path).get_or_create("c", builder(size=3))
    assert (entry.path / "model.safetensors").read_bytes() == b"xxx"


def test_a_folder_without_its_meta_data_is_no_entry(tmp_path):
    (tmp_path / "d").mkdir()
    assert WeightsCache(tmp_path).get("d") is None
    assert WeightsCache(tmp_path).entries() == []


def test_threads_that_ask_at_once_build_once(tmp_path):
    log = []
    threads = [
        threading.Thread(target=lambda: WeightsCache(tmp_path).get_or_create("e", builder(log=log))) for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(log) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_store_error_with_the_remedy(tmp_path, number):
    def build(folder, work):
        raise OSError(number, os.strerror(number))

    with pytest.raises(StoreError, match="OVERTRAIN_CACHE"):
        WeightsCache(tmp_path).get_or_create("f", build)
    assert WeightsCache(tmp_path).entries() == []


def test_a_full_disk_told_by_safetensors_is_recognised(tmp_path):
    def build(folder, work):
        raise Exception(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")

    with pytest.raises(StoreError, match="free space"):
        WeightsCache(tmp_path).get_or_create("g", build)


def test_prune_removes_the_least_recently_used_until_the_rest_fits(tmp_path):
    cache = WeightsCache(tmp_path)
    for age, name in enumerate("xyz"):
        entry = cache.get_or_create(name, builder(size=1000))
        os.utime(entry.path / META, (1000.0 + age, 1000.0 + age))
    cache.get("x")  # now the most recently used
    removed = cache.prune(max_bytes=2 * entry.size)
    assert [e.weights_id for e in removed] == ["y"]
    assert {e.weights_id for e in cache.entries()} == {"x", "z"}


def test_prune_spares_what_was_used_lately(tmp_path):
    cache = WeightsCache(tmp_path)
    cache.get_or_create("h", builder())
    assert cache.prune(older_than_days=1) == []
    assert [e.weights_id for e in cache.prune()] == ["h"]


def test_prune_leaves_a_training_that_runs_alone_and_does_not_wait_for_it(tmp_path):
    cache = WeightsCache(tmp_path)

    def build(folder, work):
        (work / "state").write_text("step 3")
        pruning = threading.Thread(target=WeightsCache(tmp_path).prune)
        pruning.start()
        pruning.join(timeout=10)
        assert not pruning.is_alive()
        assert (work / "state").is_file()
        assert folder.is_dir()
        return {}

    assert cache.get_or_create("i", build).damage() == ""
    (tmp_path / ".k.work").mkdir()
    cache.prune()
    assert not (tmp_path / ".k.work").exists()
