"""The `alexnet` command: one module for each group of commands. Each command imports what it needs when it runs."""
