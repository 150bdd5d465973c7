"""Studies over checkpoints: what is run, stored, analysed and reported. One run of one checkpoint is `model_wrappers`.

>>> from overtrain import load_runs
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overtrain.results.frame import load_documents, load_runs

__all__ = ["load_documents", "load_runs"]


def __getattr__(name: str) -> Any:
    """Import pandas only when one of the two is asked for: the command line's help must stay fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from overtrain.results import frame

    return getattr(frame, name)
