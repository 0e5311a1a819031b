"""The `alexnet` command in this process."""

from alexnet.cli.commands import main


def alexnet(*arguments: object) -> int:
    """Run the command with these arguments and return its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
