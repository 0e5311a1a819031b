"""Write the pages of the reference: command line, networks and recipes, settings, Python, examples, and the explorer.

Every word of them comes from the package: help texts, docstrings of fields and functions, and the files in examples/.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import alexnet
from alexnet.architecture import explorer
from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.preset_listing import all_networks, all_recipes, field_meanings, presets_named
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import RECIPES
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec, MapLRN
from alexnet.cli.main import app

NETWORK_PARTS = {Arch: ("The network", "arch."), InputSpec: ("Its input", "arch.input."),
                 Conv: ("A convolution", "arch.conv1."), Dense: ("A hidden fully connected layer", "arch.dense1."),
                 LRN: ("Response normalization", "arch.lrn."), MapLRN: ("Response normalization within a map",
                 "arch.map_lrn.")}
"""Dataclass -> heading, and what `--set` writes before its fields."""

RETURNED = ("inference.classifier.Prediction", "inference.metrics.Errors", "inference.data_check.DataCheck",
            "api.features.LabeledFeatures")
"""Classes that public functions return."""
EXIT_CODES = "All commands have the same [exit codes](../deploy/index.md#exit-codes)."
DEPLOYED = ("Dockerfile", "compose.yaml")
"""Files of the root that the page of examples shows too."""
ABOUT_SETTINGS = """# Settings

Every field of a network and of a recipe can be set on the command line (`--set recipe.learning_rate=0.02`), in a file
(`--config FILE`), and in Python. `arch.conv.width=16` sets a field of all convolutions. A wrong name or value is
refused, with the closest name. `alexnet list NAME` shows the values of a preset.

Meanings name their source: § a section of the paper, or a short name of the [credits](../credits.md).
"""


def write_reference(root: Path, out: Path) -> None:
    """Write the generated pages into the site's source, the folder `out`.

    Args:
        root: The repository.
        out: build/docs.
    """
    folder = out / "reference"
    folder.mkdir(exist_ok=True)
    pages = {"commands.md": command_page(), "networks.md": networks_page(), "settings.md": settings_page(),
             "python.md": python_page(), "examples.md": examples_page(root)}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    explorer.write(out / "learn" / "paper.html", ARCHS["paper"])


def command_page() -> str:
    """All commands and options, from their help."""
    text = app.generate_docs(usage_name="alexnet")
    text = re.sub(r"^(alexnet [\w-]+) -m \S+", r"\1", text, flags=re.MULTILINE)  # how this process was started
    text = text.replace("# alexnet\n", f"# Commands\n\n{EXIT_CODES}\n", 1).replace("```console", "```text")
    text = re.sub(r"## Table of Contents\n.*?(?=\*\*Train and evaluate)", "", text, flags=re.DOTALL)
    anchors = {command: f"#alexnet-{command.lstrip('-')}" for command in app}
    return re.sub(r"\]\(#alexnet-([\w-]+)\)", lambda link: f"]({anchors.get(link[1], link[0][2:-1])})", text)


def networks_page() -> str:
    """All preset networks and recipes, and for each the settings in which it is not the paper's."""
    lines = ["# Networks and recipes", "",
             "`alexnet list` prints these tables, `alexnet list NAME` every setting of one with its meaning.", "",
             "## Networks", "", "| `--arch` | what it is | parameters | input | recipe |", "|---|---|---|---|---|"]
    lines += [f"| [`{row.name}`](#{row.name}) | {row.about} | {row.parameters:,} | {row.input} | `{row.recipe}` |"
              for row in all_networks()]
    lines += ["", "## Recipes", "", "| `--recipe` | what it is |", "|---|---|"]
    lines += [f"| [`{row.name}`](#recipe-{row.name}) | {row.about} |" for row in all_recipes()]
    lines += ["", "## Settings of each", "",
              "Settings that have the default of their field, mostly the paper's, are left out."]
    for name in dict.fromkeys([*ARCHS, *RECIPES]):
        for preset in presets_named(name):
            anchor = name if preset.kind == "network" else f"recipe-{name}"
            lines += ["", f"### {preset.kind.capitalize()} `{name}` {{ #{anchor} }}", "", preset.about, "",
                      f"Source: {preset.source}.", ""]
            lines += [f"- `{setting.path} = {_value(setting.value)}`" for setting in preset.settings
                      if setting.differs or setting.default is None]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every field of a network and of a recipe: its type, its default, and its docstring."""
    lines = [ABOUT_SETTINGS]
    lines += ["## Recipe", "", *_fields(Recipe, "recipe.")]
    for kind, (heading, path) in NETWORK_PARTS.items():
        lines += ["", f"## {heading}", "", *_fields(kind, path)]
    return "\n".join(lines) + "\n"


def _fields(kind: Any, path: str) -> list[str]:
    meanings = field_meanings(kind)
    lines = [f"| `{path}`... | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        default = field.default if field.default is not dataclasses.MISSING else None
        value = "" if default is None or dataclasses.is_dataclass(default) else _value(default)
        shown = f"`{value}`" if value else ""  # two backticks would be shown as they are
        meaning = " ".join(meanings.get(field.name, "").split()).replace("|", "\\|")
        lines.append(f"| `{field.name}` | {shown} | {meaning} |")
    return lines


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value)


def python_page() -> str:
    """The public names of the package and the classes that its functions return, by mkdocstrings."""
    modules = alexnet._MODULE_OF
    functions = ["load", "train", "evaluate", "check", "features", "arch", "recipe"]
    classes = [name for name in alexnet.__all__ if name in modules and name not in functions]
    lines = ["# Python", "", (alexnet.__doc__ or "").strip(), ""]
    for path in [*(f"{modules[name]}.{name}" for name in [*functions, *classes]), *RETURNED]:
        lines.append(f"::: alexnet.{path}")
        if path.rpartition(".")[2] in ("Arch", "InputSpec", "Recipe"):
            lines += ["    options:", "      members: false", "", "Its fields: [settings](settings.md)."]
        if path.endswith(".Model"):
            lines += ["    options:", "      inherited_members: true"]  # predict, is_sure and pixels are Classifier's
        lines.append("")
    return "\n".join(lines)


def examples_page(root: Path) -> str:
    """The files in examples/ and those of DEPLOYED, whole."""
    lines = ["# Examples", "", "The files of the folder `examples/` of the repository, and those that make and run a "
             "container. The tests run or read them.", ""]
    languages = {".py": "python", ".sh": "bash", ".sbatch": "bash", ".yaml": "yaml", "": "text"}
    for path in [*sorted((root / "examples").rglob("*")), *(root / name for name in DEPLOYED)]:
        if path.is_file() and path.suffix in languages:
            inside = path.relative_to(root)
            lines += [f"## {inside.as_posix().removeprefix('examples/')} {{ #{example_anchor(inside)} }}", "",
                      f"```{languages[path.suffix]}", path.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(lines)


def example_anchor(path: Path) -> str:
    """The anchor of a file on the page of examples: its folder and name, since two folders have a kubernetes.yaml."""
    return "-".join(path.parts[-2:]).replace(".", "-")
