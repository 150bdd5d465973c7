"""The embedded default study: a ladder of tiny models from scratch, modified, evaluated by lm-eval, drawn and judged.

No network and no GPU. Evaluation and modification are what every user gets, `overtrain_perturb` and `overtrain_ft`
through lm-eval; only the ladder's text and size are the demo's own.
"""

from overtrain.demo.study import run

__all__ = ["run"]
