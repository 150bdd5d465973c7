"""The templated sums that the micro studies are tuned on."""

from __future__ import annotations

import json

from overtrain.pretrain.arithmetic import rows, write_rows


def test_sums_are_right_and_repeatable():
    made = rows(200)
    assert rows(200) == made
    for row in made:
        a, b = map(int, row["prompt"].removesuffix(" =").split(" + "))
        assert row["completion"] == f" {a + b}"
    assert [json.loads(line) for line in write_rows(3).splitlines()] == made[:3]
