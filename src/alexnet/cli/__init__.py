"""The `alexnet` command. Each subcommand imports what it needs when it is called."""
