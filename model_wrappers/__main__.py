"""``python -m model_wrappers ...``: lm-eval's own command line with our models, even if the import hook is not installed."""

from __future__ import annotations


def main() -> None:
    """Run lm-eval's command line. Output and exit codes are lm-eval's own, except for an `OvertrainError`."""
    import lm_eval.models  # noqa: F401  (lm-eval fills its registry only while it is empty, so before we register)
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
