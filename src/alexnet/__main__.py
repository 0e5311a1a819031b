"""`python -m alexnet` is the `alexnet` command, so that torchrun can start it."""

from alexnet.cli import main

if __name__ == "__main__":
    main()
