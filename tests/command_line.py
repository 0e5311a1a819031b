"""The `alexnet` command in this process."""

from alexnet.cli.main import main

SMALL = ["--arch", "small", "--set", "arch.input.side=32", "--set", "arch.input.crop=28", "--set", "arch.conv.width=16",
         "--set", "recipe.batch_size=16"]
"""Options of `alexnet train` for a network that learns the striped test images in seconds."""


def alexnet(*arguments: object) -> int:
    """Run the command with these arguments and return its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
