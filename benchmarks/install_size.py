"""The installed size of each package of the running Python, largest first, and the sum without torch.

    python benchmarks/install_size.py

Run it in a virtual environment that holds alexnet alone. A package's size is that of the files that it installed. The
second column is the bytecode beside them, which pip compiles at once, and other installers leave to the first import.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path


def installed_bytes(package: Distribution) -> tuple[int, int]:
    """The size of a package's files that are there, and of its bytecode."""
    files = bytecode = 0
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if path.is_file():
            size = path.stat().st_size
            files, bytecode = (files, bytecode + size) if path.suffix == ".pyc" else (files + size, bytecode)
    return files, bytecode


def required(name: str) -> set[str]:
    """A package and all that it requires, as far as it is installed; names in lower case."""
    found: set[str] = set()
    todo = [name]
    while todo:
        key = normal(todo.pop())
        try:
            requirements = distribution(key).requires or []
        except PackageNotFoundError:  # of another platform
            continue
        if key not in found:
            found.add(key)
            todo += [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in requirements if "extra ==" not in text]
    return found


def normal(name: str) -> str:
    """A name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Print the table."""
    sizes = {normal(each.metadata["Name"]): installed_bytes(each) for each in distributions()}
    of_torch, own = required("torch"), required("alexnet")
    for name, (files, bytecode) in sorted(sizes.items(), key=lambda item: -sum(item[1])):
        owner = "torch" if name in of_torch else "alexnet" if name in own else "neither"
        print(f"{files / 1e6:8.1f} MB {bytecode / 1e6:+8.1f} MB of bytecode  {name:24} {owner}")
    for names, label in ((of_torch, "torch and what it requires"),
                         (own - of_torch, "alexnet and what it requires besides")):
        files, bytecode = (sum(sizes[name][column] for name in names) for column in (0, 1))
        print(f"{files / 1e6:8.1f} MB {bytecode / 1e6:+8.1f} MB of bytecode  {label}")


if __name__ == "__main__":
    main()
