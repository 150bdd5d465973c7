"""What is measured: lm-eval task families, one folder each.

Point stock lm-eval at this folder (``overtrain tasks`` prints it)::

    lm_eval --model hf --model_args pretrained=M --tasks overtrain_core8 --include_path "$(overtrain tasks)"

Importing this package costs nothing: neither lm-eval nor datasets is imported before a task is loaded.
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
