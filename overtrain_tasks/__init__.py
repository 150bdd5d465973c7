"""The tasks: one folder per family of lm-eval tasks.

Stock lm-eval finds them if it gets the path of this folder (``overtrain tasks`` prints it)::

    lm_eval --model hf --model_args pretrained=M --tasks overtrain_core8 --include_path "$(overtrain tasks)"

Importing this package is fast: lm-eval and datasets are imported only when a task is loaded.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["path"]


def path() -> Path:
    """Return the folder to pass to lm-eval as ``--include_path``.

    >>> (path() / "generalist" / "core8.yaml").is_file()
    True
    """
    return Path(__file__).resolve().parent
