"""The installed size of each package of the running Python, largest first, and the sum without torch.

    python benchmarks/install_size.py

Run it in a virtual environment that holds alexnet alone. A package's size is that of the files that it installed, with
the bytecode that pip compiled.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path


def installed_bytes(package: Distribution) -> int:
    """The size of a package's files that are there."""
    paths = (Path(str(package.locate_file(file))) for file in package.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


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
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        owner = "torch" if name in of_torch else "alexnet" if name in own else "neither"
        print(f"{size / 1e6:8.1f} MB  {name:24} {owner}")
    print(f"{sum(sizes[name] for name in of_torch) / 1e6:8.1f} MB  torch and what it requires")
    print(f"{sum(sizes[name] for name in own - of_torch) / 1e6:8.1f} MB  alexnet and what it requires besides")


if __name__ == "__main__":
    main()
