"""Where network and recipe come from: --like, --config, `list NAME`, `explain RUN`; and errors that name the option."""

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import fields

import pytest

from alexnet.architecture.network_presets import ARCHS
from alexnet.architecture.preset_listing import field_meanings
from alexnet.architecture.recipe import Recipe
from alexnet.architecture.recipe_presets import RECIPES
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec
from command_line import SMALL, alexnet


@pytest.mark.parametrize(("options", "words"), [
    (["--batch-size", "0"], "--batch-size 0 must be at least 1"),
    (["--epochs", "0"], "--epochs 0 must be at least 1"),
    (["--lr", "inf"], "--lr inf must be a positive number"),
    (["--weight-decay", "-1"], "--weight-decay -1.0 must be at least 0"),
    (["--seed", "-1"], "--seed -1 must be 0 or more"),
    (["--micro-batch", "1"], "--micro-batch 1 must be at least 2 images"),
    (["--workers", "-1"], "--workers -1 must be 0 or more"),
    (["--save-minutes", "-1"], "--save-minutes -1.0 must be 0 or more"),
    (["--timeout", "0"], "--timeout 0 must be more than 0 seconds"),
    (["--set", "recipe.batch_size=0"], "recipe.batch_size 0 must be at least 1"),
    (["--set", "recipe.freeze=conv"], "recipe.freeze conv without --init"),
])
def test_an_impossible_value_is_reported_under_the_option_that_set_it(class_folders, tmp_path, capsys, options, words):
    small = [word for word in SMALL if word != "recipe.batch_size=16"][:-1]
    assert alexnet("train", class_folders, *small, *options, "--out", tmp_path / "run") == 2
    assert f"alexnet: {words}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# --- --like and --config ---

def config_of(run):
    return json.loads((run / "config.json").read_text())


def test_like_takes_network_and_recipe_of_a_run_and_not_its_weights(run, class_folders, tmp_path):
    out = tmp_path / "again"
    assert alexnet("train", class_folders, "--like", run, "--epochs", 1, "--set", "arch.dropout=0.25", "--out",
                   out) == 0
    then, now = config_of(run), config_of(out)
    assert now["arch"] == then["arch"] | {"dropout": 0.25}
    assert now["recipe"] == then["recipe"] | {"epochs": 1}
    assert "init" not in json.loads((out / "last" / "checkpoint.json").read_text())["provenance"]


@pytest.mark.parametrize("options", [["--arch", "small"], ["--recipe", "modern"]])
def test_like_with_another_network_or_recipe_is_refused(run, class_folders, tmp_path, capsys, options):
    assert alexnet("train", class_folders, "--like", run, *options, "--out", tmp_path / "run") == 2
    assert "--like already names the network and the recipe; leave out --arch and --recipe" in capsys.readouterr().err


def test_a_configuration_file_sets_what_options_would(class_folders, tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text('[arch]\npreset = "small"\ninput.side = 32\ninput.crop = 28\nconv.width = 16\nactivation = "tanh"\n'
                    '[recipe]\npreset = "torchvision"\nepochs = 3\nbatch_size = 16\ndrop_epochs = [1, 2]\n')
    out = tmp_path / "run"
    assert alexnet("train", class_folders, "--config", file, "--epochs", 1, "--set", "recipe.batch_size=20", "--out",
                   out) == 0
    config = config_of(out)
    network = config["arch"]
    assert (network["name"], network["activation"], network["input"]["side"]) == ("small", "tanh", 32)
    assert [conv["width"] for conv in config["arch"]["conv"]] == [16] * 5
    recipe = config["recipe"]
    assert (recipe["name"], recipe["epochs"], recipe["batch_size"], recipe["drop_epochs"], recipe["weight_decay"]) == (
        "torchvision", 1, 20, [1, 2], 1e-4), "options precede the file"


@pytest.mark.parametrize(("content", "words"), [
    ("[recipe\n", "is not a TOML file"), ("[recpie]\nepochs = 1\n", "has the key 'recpie'; did you mean recipe?"),
    ('arch = "small"\n', "arch is not a table; write [arch] and, below it, preset = 'small'"),
    ("[recipe]\nepochs = \"many\"\n", "recipe.epochs: 'many' is not a whole number"),
    ("[recipe]\nepoch = 3\n", "did you mean recipe.epochs?"),
    ("[arch]\npreset = 3\n", "preset of [arch] is not a name"),
    ("[recipe]\nepochs = 2026-01-01\n", "is not a whole number"),
])
def test_a_wrong_configuration_file_is_refused_in_a_sentence(class_folders, tmp_path, capsys, content, words):
    (tmp_path / "recipe.toml").write_text(content)
    assert alexnet("train", class_folders, "--config", tmp_path / "recipe.toml", "--out", tmp_path / "run") == 2
    assert words in capsys.readouterr().err
    assert alexnet("train", class_folders, "--config", tmp_path / "none.toml") == 2
    assert "none.toml is not a file" in capsys.readouterr().err


# --- list and explain ---

def test_list_shows_every_setting_of_a_recipe_with_its_meaning(capsys):
    assert alexnet("list", "modern", "--json") == 0
    (preset,) = json.loads(capsys.readouterr().out)
    assert (preset["kind"], preset["name"], preset["source"]) == ("recipe", "modern", "this project")
    settings = {setting["path"]: setting for setting in preset["settings"]}
    assert settings.keys() == {f"recipe.{field.name}" for field in fields(Recipe) if field.name != "name"}
    assert settings["recipe.learning_rate"] == {
        "path": "recipe.learning_rate", "value": 0.1, "default": 0.01, "meaning": "Initial learning rate (§5: 0.01).",
        "is_used": True}


@pytest.mark.parametrize("columns", [80, 200])
def test_list_groups_the_settings_of_a_recipe_and_fits_the_terminal(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert alexnet("list", "modern") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("recipe modern: What has replaced the paper's training since: a linear schedule")
    assert "  recipe.learning_rate = 0.1   (default: 0.01)\n      Initial learning rate (§5: 0.01).\n" in printed
    changed, same, off, _ = re.split(
        "\nAs in the paper:|\nOff:|\nNot used", printed.partition("Other than the paper's:")[2])
    assert ("recipe.nesterov = true" in changed, "recipe.momentum = 0.9" in same, "recipe.clip_norm = 0.0" in off) == (
        True, True, True)
    assert all(len(re.findall(rf"recipe\.{field.name} = ", printed)) == 1 for field in fields(Recipe) if
               field.name not in ("name", "epochs")), "each is listed once"
    assert max(map(len, printed.splitlines())) <= min(columns, 100)


@pytest.mark.parametrize(("name", "unused"), [
    ("paper", {"arch.map_lrn.side", "arch.map_lrn.alpha", "arch.map_lrn.beta", "recipe.crop_area", "recipe.train_crop",
               "recipe.class_weight_cap", "recipe.drop_epochs"}),
    ("torchvision", {f"arch.lrn.{name}" for name in ("k", "n", "alpha", "beta", "divide_by_n", "within_tower")}
     | {f"arch.map_lrn.{name}" for name in ("side", "alpha", "beta")}
     | {f"arch.{layer}.init_{name}" for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "dense1", "dense2")
        for name in ("std", "bias")} | {"arch.output_init_std", "arch.output_init_bias"}
     | {f"recipe.{name}" for name in ("class_weight_cap", "lighting_scale", "lighting_rescale", "lighting_stop_epoch",
                                      "patience", "lr_drop_count")})])
def test_settings_that_another_one_makes_irrelevant_are_not_listed_as_the_papers(name, unused, capsys):
    assert alexnet("list", name) == 0
    parts = capsys.readouterr().out.split("\nNot used, because another setting decides otherwise:")[1:]
    found = [re.findall(r"^  ((?:arch|recipe)\.[a-z_.0-9]+) =", part.partition("\n\n")[0], re.M) for part in parts]
    assert {path for paths in found for path in paths} == unused


def test_list_says_what_each_network_and_recipe_is_and_which_to_take(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert alexnet("list") == 0
    printed = capsys.readouterr().out
    assert "Which one: small for images of 64 pixels or less" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert all(re.search(rf"^  {name} +[A-Z.pt]", printed, re.M) for name in [*ARCHS, *RECIPES])
    assert alexnet("list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["networks"]] == [*ARCHS]
    assert [row["name"] for row in found["recipes"]] == [*RECIPES]
    assert all(row["about"].endswith(".") for row in (*found["networks"], *found["recipes"]))
    assert next(row for row in found["networks"] if row["name"] == "paper")["parameters"] == 60_965_224


def test_list_shows_network_and_recipe_where_both_have_the_name(capsys):
    assert alexnet("list", "paper", "--json") == 0
    network, recipe = json.loads(capsys.readouterr().out)
    assert (network["kind"], recipe["kind"]) == ("network", "recipe")
    assert {setting["path"]: setting["value"] for setting in network["settings"]}["arch.conv1.kernel"] == 11
    assert alexnet("list", "papr") == 2
    assert "there is no network or recipe 'papr'; did you mean paper?" in capsys.readouterr().err


@pytest.mark.parametrize("config", [Recipe, Arch, InputSpec, Conv, Dense, LRN])
def test_every_field_of_a_configuration_has_a_meaning(config):
    assert field_meanings(config).keys() == {field.name for field in fields(config)}
    assert all(meaning.endswith(".") for meaning in field_meanings(config).values())


def test_explain_takes_a_run_a_checkpoint_and_compares_them(run, tmp_path, capsys):
    assert alexnet("explain", run, "--json") == 0
    explained = json.loads(capsys.readouterr().out)
    assert (explained["arch"], explained["input"]) == ("small", [3, 28, 28])
    assert alexnet("explain", run / "best") == 0
    assert "conv1" in capsys.readouterr().out
    assert alexnet("explain", "small", "--diff", run, "--json") == 0
    differences = json.loads(capsys.readouterr().out)["differences"]
    found = {(each["where"], each["what"]): each["values"] for each in differences}
    assert found["conv1", "filters"] == ["48", "16"]
    assert found["recipe", "batch size"] == ["128", "16"]
    assert alexnet("explain", tmp_path) == 2
    assert "is not a checkpoint" in capsys.readouterr().err


def test_shell_completion_can_be_installed(capsys):
    from alexnet.cli.app import app

    script = app.generate_completion(shell="bash")
    if shutil.which("bash"):
        def completed(*words):
            """What bash offers for the last word."""
            asked = (f'{script}\nCOMP_WORDS=(alexnet {" ".join(map(shlex.quote, words))}) COMP_CWORD={len(words)}\n'
                     '_alexnet\nprintf "%s\\n" "${COMPREPLY[@]}"')
            return subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout.split()

        assert completed("ca") == ["cache", "calibrate"]
        assert completed("cal") == ["calibrate"]
        assert completed("train", "PHOTOS", "--batch") == ["--batch-size"]
        assert set(completed("compare", "--all")) == {"--all-settings"}
    assert "lr-find" in script
    assert "--batch-size" in script
    assert shutil.which("bash") is None or "complete" in script


def test_the_defaults_are_said_to_be_what_they_are(capsys):
    """Of a convolution the default stride is 1, and the paper's first one has 4; of patience the paper gives none."""
    assert alexnet("list", "one-gpu") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "A network's defaults are those of its fields in Python, and not the paper's values" in printed
    assert "recipe's defaults" not in printed
    assert alexnet("list", "modern") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert ("A recipe's defaults are the paper's values; but patience, of which the paper gives no number, is this "
            "project's, and lighting_scale is cuda-convnet2's.") in printed
    assert "network's defaults" not in printed
