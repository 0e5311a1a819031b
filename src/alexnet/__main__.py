"""`python -m alexnet` is the `alexnet` command, started so by torchrun; Ctrl-C is handled during imports."""

import sys


def main() -> None:
    """Run `alexnet.cli.main.main`; exit with 130 for Ctrl-C while it is imported."""
    try:
        from alexnet.cli.main import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
