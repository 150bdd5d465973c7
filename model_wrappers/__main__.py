"""``python -m model_wrappers ...``: lm-eval's own command line with our models registered, hook or no hook."""

from __future__ import annotations


def main() -> None:
    """Run lm-eval's command line; what it prints and how it exits is lm-eval's own, except for `OvertrainError`."""
    import lm_eval.models  # noqa: F401  (its own models first: a registry that is not empty is not filled any more)
    from lm_eval.__main__ import cli_evaluate

    from model_wrappers._hook import register
    from model_wrappers.errors import install_excepthook
    from model_wrappers.processes import end

    register()
    install_excepthook()
    cli_evaluate()
    end()


if __name__ == "__main__":
    main()
