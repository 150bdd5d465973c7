"""``python -m overtrain``: the same as ``overtrain``."""

from overtrain.cli.app import main

if __name__ == "__main__":
    main()
