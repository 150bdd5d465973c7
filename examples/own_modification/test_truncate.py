"""Every promise of a modification, and the one thing that only this one does."""

import pytest
import torch
from overtrain_truncate import Truncate
from transformers import AutoModelForCausalLM

from overtrain import testing


class TestTruncate(testing.ModificationContract):
    modification = Truncate

    def values(self, folder):
        return {"kept_share": 0.5}


def test_the_distance_is_the_norm_of_the_singular_values_that_go(tmp_path):
    """Eckart and Young 1936: no matrix of that rank is nearer."""
    model = AutoModelForCausalLM.from_pretrained(testing.tiny_checkpoint(tmp_path), dtype=torch.float32)
    weights = [p.detach().clone() for n, p in model.named_parameters() if "proj" in n]
    gone = torch.cat([torch.linalg.svdvals(w)[len(torch.linalg.svdvals(w)) // 2 :] for w in weights])
    modified = Truncate(kept_share=0.5).apply(model, None, None)
    assert modified.metrics["distance"] == pytest.approx(float(gone.norm()), rel=1e-4)
