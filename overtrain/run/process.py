"""One of the processes that torchrun starts for one cell: ``-m overtrain.run.process FILE RUNS KEY OUT``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from model_wrappers.errors import OvertrainError
from model_wrappers.processes import end

__all__ = ["main"]


def main(file: str, runs: str, key: str, out: str) -> None:
    """Evaluate the cell whose key is ``key``; the first process writes its files into ``out``; then the process ends.

    Raises:
        OvertrainError: as the cell raises.
    """
    from overtrain.plan.expand import expand
    from overtrain.plan.load import load_study
    from overtrain.plan.planner import Planner
    from overtrain.run.cell import files_of
    from overtrain.run.evaluate import session
    from overtrain.run.ladders import held_out, locate

    study = load_study(file)
    cells = [cell for cell in expand(study) if cell.key == key]
    root = Path(runs) / study.name
    text = held_out(study.points, Path(runs))
    points = [cell.point for cell in cells]
    planner = Planner(root, study.file, locate(points, Path(runs)), str(text) if text else None)
    (job,) = planner.plan(cells, compute=False).jobs
    outcome = session(job.cell.tasks, job.settings, job.sign).evaluate(job)
    if int(os.environ.get("RANK", "0")) == 0:
        for name, content in files_of(outcome, samples=job.cell.evaluation.samples).items():
            (Path(out) / name).write_bytes(content)
    end()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OvertrainError as error:  # torch.distributed's own excepthook would swallow the message
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
