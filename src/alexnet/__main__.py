"""`python -m alexnet` is the `alexnet` command, so that torchrun can start it; Ctrl-C may come while it is imported."""

import sys


def main() -> None:
    """As `cli.main`; exits with 130 where there is nothing to stop yet."""
    try:
        from alexnet.cli.commands import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
