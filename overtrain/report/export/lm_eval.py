"""lm-eval's own results, in the folder that ``lm_eval --output_path`` makes and leaderboard tooling reads.

Files: ``<developer>__<model>/results_<time>.json``.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from overtrain.report.export.form import OneFilePerCell

if TYPE_CHECKING:
    from overtrain.report.export.form import FinishedCell

__all__ = ["LmEval"]


class LmEval(OneFilePerCell):
    """One results file per cell.

    Tooling keeps the newest file of a model's folder, so each set of weights gets a name, and with it a folder, of its own:
    ``model_name`` is the only thing that differs from what lm-eval wrote, beside the description of the machine, which goes.
    """

    def content(self, cell: FinishedCell, organization: str) -> tuple[str, dict[str, Any]]:  # noqa: ARG002
        """Return the path and the content of a cell's results."""
        name = f"{cell.developer}/{cell.model}"
        folder = f"{cell.developer}__{cell.model}"
        kept = {k: v for k, v in cell.results.items() if k not in {"samples", "pretty_env_info"}}
        config = {**kept.get("config", {}), "model_name": name}
        moment = datetime.fromtimestamp(float(cell.results.get("date") or cell.finished), UTC).replace(tzinfo=None)
        when = moment.isoformat(timespec="microseconds").replace(":", "-")
        content = kept | {"config": config, "model_name": name, "model_name_sanitized": folder}
        return f"{folder}/results_{when}.json", _plain(content)


def _plain(value: Any) -> Any:
    """Return JSON data with NaN and infinities as None, which strict readers refuse."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
