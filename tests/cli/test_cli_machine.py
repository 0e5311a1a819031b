"""`alexnet doctor` and `alexnet cache`: what they say, and that the cache loses nothing unasked."""

import json
import os
import subprocess
import sys
import time
from importlib import metadata

import pytest

from alexnet._runtime import extras, installation
from alexnet._runtime.cache import size_text
from alexnet._runtime.extras import install_line
from alexnet._runtime.locks import file_lock
from alexnet.cli import machine
from alexnet.cli.render_machine import age_text
from alexnet.data import cache_entries
from alexnet.data.packing import LOCK, pack
from alexnet.data.sources.detect import open_dataset
from command_line import alexnet

# --- doctor ---


def examined(capsys):
    assert alexnet("doctor", "--json") == 0
    return {check["name"]: check for check in json.loads(capsys.readouterr().out)}


def test_doctor_names_versions_device_kernels_precision_cache_and_every_extra(capsys, tmp_path):
    import torch

    from alexnet._runtime import native
    from alexnet._runtime.devices import choose_precision

    found = examined(capsys)
    assert found["torch"]["found"] == torch.__version__
    assert found["alexnet"]["found"].startswith(metadata.version("alexnet"))
    assert found["native kernels"]["found"].startswith(native.level() or "not built")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert found["precision"]["found"].startswith(choose_precision("auto", device))
    assert found["cache"]["found"] == f"{tmp_path / 'cache' / 'alexnet'}: 0 entries, 0 kB"
    assert {name.removeprefix("extra ") for name in found if name.startswith("extra ")} == set(extras.EXTRAS)


def test_doctor_says_how_to_install_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(extras, "is_installed", lambda module: module not in ("h11", "faiss"))
    found = examined(capsys)
    assert found["extra neighbors"]["state"] == "missing"
    assert found["extra neighbors"]["found"].endswith(": without faiss")
    assert found["extra serve"]["found"].endswith(": without h11")
    assert (found["extra neighbors"]["remedy"], found["extra map"]["remedy"]) == (install_line("neighbors"), "")
    assert alexnet("doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("-  extra neighbors"))
    assert lines[place + 1].strip() == install_line("neighbors"), "alone on its line, to be copied"
    assert lines[-1].endswith("2 extras not installed (-)")


def test_doctor_says_how_kernels_are_built_in_the_clone(capsys, monkeypatch):
    monkeypatch.setattr(installation.native, "level", lambda: "")
    kernels = examined(capsys)["native kernels"]
    assert kernels["state"] == "wrong"
    assert kernels["remedy"] == (
        f'install a C compiler, then pip install --force-reinstall --no-deps -e "{extras.clone()}"')


def test_doctor_names_kernels_that_are_turned_off(capsys, monkeypatch):
    monkeypatch.setenv("ALEXNET_NATIVE", "0")
    kernels = examined(capsys)["native kernels"]
    assert (kernels["state"], kernels["remedy"]) == ("wrong", "unset ALEXNET_NATIVE")
    monkeypatch.setenv("ALEXNET_NATIVE", "sse9")
    assert examined(capsys)["native kernels"]["found"] == (
        "ALEXNET_NATIVE=sse9 must be 0, generic, avx2, avx512, or not set")


def torchvision_check(monkeypatch, torch, torchvision, required):
    monkeypatch.setattr(installation, "_version", lambda name: torchvision)
    monkeypatch.setattr(installation, "requires", lambda name: ["numpy", required, "scipy ; extra == 'scipy'"])
    check = installation._torchvision(torch)
    assert check is not None
    return check


@pytest.mark.parametrize(("torch", "torchvision", "state", "remedy"), [
    ("2.13.0+cpu", "0.28.0+cpu", "ok", ""), ("2.13.0", "0.28.0", "ok", ""),
    ("2.13.0+cpu", "0.28.0", "wrong", "pip install --force-reinstall --no-deps torchvision==0.28.0 --index-url "
     "https://download.pytorch.org/whl/cpu"),
    ("2.13.0", "0.28.0+cpu", "wrong", "pip install --force-reinstall --no-deps torchvision==0.28.0")])
def test_doctor_names_a_torchvision_of_another_build(monkeypatch, torch, torchvision, state, remedy):
    check = torchvision_check(monkeypatch, torch, torchvision, "torch (==2.13.0)")
    assert (check.state, check.remedy) == (state, remedy)


@pytest.mark.parametrize(("torch", "torchvision", "wanted", "remedy"), [
    ("2.10.0+cpu", "0.28.0+cpu", "2.13.0", "pip install --force-reinstall --no-deps torchvision==0.25.0 --index-url "
     "https://download.pytorch.org/whl/cpu"),
    ("2.13.0", "0.20.0", "2.5.0", "pip install --force-reinstall --no-deps torchvision==0.28.0"),
    ("2.13.1", "0.28.0", "2.13.0", "pip install --force-reinstall --no-deps torchvision==0.28.1"),
    ("2.14.0.dev20260101+cu130", "0.28.0", "2.13.0", "install the torchvision that https://github.com/pytorch/vision "
     "names for torch 2.14.0.dev20260101")])
def test_doctor_names_a_torchvision_for_another_torch(monkeypatch, torch, torchvision, wanted, remedy):
    for required in (f"torch (=={wanted})", f"torch=={wanted}"):  # as setuptools wrote it, and writes it now
        check = torchvision_check(monkeypatch, torch, torchvision, required)
        assert (check.state, check.found) == (
            "wrong", f"{torchvision} is for torch {wanted}, and this is torch {torch}: importing it fails")
        assert check.remedy == remedy


def test_a_torchvision_that_names_no_torch_is_only_compared_by_its_build(monkeypatch):
    assert torchvision_check(monkeypatch, "2.13.0", "0.20.0", "torch").state == "ok"
    monkeypatch.setattr(installation, "requires", lambda name: None)
    assert installation._torchvision("2.13.0+cpu").state == "wrong"


def without_torch(capsys, monkeypatch, is_installed):
    versions = installation._version
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises ImportError
    monkeypatch.setattr(installation, "_version", lambda name: (
        "(missing)" if name == "torch" and not is_installed else versions(name)))
    return examined(capsys)


def test_doctor_without_torch_shows_all_that_needs_none_and_names_the_build_for_the_cpu(capsys, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    found = without_torch(capsys, monkeypatch, is_installed=False)
    assert (found["torch"]["state"], found["torch"]["remedy"]) == (
        "wrong", "pip install torch --index-url https://download.pytorch.org/whl/cpu   # without --index-url: the CUDA "
        "build, several GB")
    named = [f"extra {name}" for name in extras.EXTRAS]
    assert list(found) == ["alexnet", "python", "torch", "packages", "native kernels", *named, "cache"]
    assert f"numpy {metadata.version('numpy')}" in found["packages"]["found"]


@pytest.mark.parametrize(("platform", "line"), [
    ("linux", "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cpu"),
    ("darwin", "pip install --force-reinstall torch")])
def test_doctor_installs_a_torch_again_that_cannot_be_imported(capsys, monkeypatch, platform, line):
    monkeypatch.setattr(sys, "platform", platform)
    found = without_torch(capsys, monkeypatch, is_installed=True)
    assert found["torch"]["found"].startswith("cannot be imported: ")
    assert found["torch"]["remedy"].partition("   #")[0] == line


def test_doctor_works_where_torch_is_not_installed():
    """In a process of its own, in which no test has imported torch."""
    ran = subprocess.run([sys.executable, "-c", "import sys; sys.modules['torch'] = None; "
                          "from alexnet.cli.main import main; main(['doctor'])"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "native kernels  " in ran.stdout
    assert "extra serve" in ran.stdout


# --- cache ---


@pytest.fixture
def filled(class_folders, tmp_path):
    """A cache with a pack, an old feature file, a download, and a pack whose source is gone. Returns its folder."""
    root = tmp_path / "cache" / "alexnet"
    pack(open_dataset(class_folders), root / "packed" / "trees-32-0123456789ab-5", side=32)
    for name, size in (("features/f.npy", 3_000_000), ("cifar-10.tar.gz", 2_000)):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(bytes(size))
    lost = root / "packed" / "lost-32-0123456789ab-5"
    lost.mkdir()
    (lost / "manifest.json").write_text(json.dumps({"source": str(tmp_path / "no such folder")}))
    os.utime(root / "features" / "f.npy", (time.time() - 40 * 86400,) * 2)
    return root


def listed(capsys, *options):
    assert alexnet("cache", "--json", *options) == 0
    return json.loads(capsys.readouterr().out)


def test_the_cache_is_listed_with_size_age_and_source(filled, class_folders, capsys):
    found = listed(capsys)
    assert found["folder"] == str(filled)
    entries = {entry["name"]: entry for entry in found["entries"]}
    assert set(entries) == {"packed/trees-32-0123456789ab-5", "packed/lost-32-0123456789ab-5", "features/f.npy",
                            "cifar-10.tar.gz"}
    assert next(iter(entries)) == "features/f.npy", "the largest first"
    packed = entries["packed/trees-32-0123456789ab-5"]
    assert packed["bytes"] == sum(file.stat().st_size for file in (filled / packed["name"]).iterdir())
    assert (packed["source"], packed["source_is_gone"]) == (str(class_folders), False)
    assert entries["packed/lost-32-0123456789ab-5"]["source_is_gone"]
    assert entries["features/f.npy"]["age_days"] == pytest.approx(40, abs=0.1)
    assert (entries["cifar-10.tar.gz"]["kind"], entries["features/f.npy"]["kind"]) == ("downloads", "features")
    assert found["bytes"] == sum(entry["bytes"] for entry in found["entries"])
    assert alexnet("cache") == 0
    text = capsys.readouterr().out
    assert "     3 MB   40 days  features/f.npy\n" in text
    assert f"packed/trees-32-0123456789ab-5  of {class_folders}\n" in text
    assert "no such folder (is gone)\n" in text
    assert "1 of them cannot be made again, as the source is gone\n" in text
    assert "\nfeatures: outputs of a network for a whole split; computed again\n" in text
    assert "\nweights: " not in text, "there are none"


def test_nothing_is_removed_where_nobody_can_be_asked(filled, capsys, monkeypatch):
    assert alexnet("cache", "--clear", "all") == 2
    printed = capsys.readouterr().err
    assert "features/f.npy" in printed, "it says what it would remove"
    assert "nothing has been removed, as there is no terminal to ask on; add --yes to remove this" in printed
    assert len(listed(capsys)["entries"]) == 4
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _: True, "readline": lambda _: "n\n"})())
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert alexnet("cache", "--clear", "all") == 2
    assert len(listed(capsys)["entries"]) == 4


@pytest.mark.parametrize(("options", "left"), [
    (["--clear", "all"], set()), (["--clear", "packed"], {"features/f.npy", "cifar-10.tar.gz"}),
    (["--clear", "f.npy", "--clear", "downloads"], {"packed/trees-32-0123456789ab-5", "packed/lost-32-0123456789ab-5"}),
    (["--clear", "all", "--older-than", "30"], {"packed/trees-32-0123456789ab-5", "packed/lost-32-0123456789ab-5",
                                                "cifar-10.tar.gz"}),
    (["--clear", "weights"], {"packed/trees-32-0123456789ab-5", "packed/lost-32-0123456789ab-5", "cifar-10.tar.gz",
                              "features/f.npy"})])
def test_what_is_named_is_removed_and_the_rest_stays(filled, capsys, options, left):
    assert alexnet("cache", *options, "--yes") == 0
    assert f"removed {4 - len(left)} entr" in capsys.readouterr().out
    assert {entry["name"] for entry in listed(capsys)["entries"]} == left
    assert not list(filled.rglob("*.removed"))


def test_an_unknown_name_is_refused_with_the_likeliest(filled, capsys):
    assert alexnet("cache", "--clear", "feature", "--yes") == 2
    assert "the cache has no feature; did you mean features?" in capsys.readouterr().err


def test_an_empty_name_removes_nothing(filled, capsys):
    assert alexnet("cache", "--clear", "", "--yes") == 2
    assert "--clear has an empty name; name an entry, a kind, or all" in capsys.readouterr().err
    assert len(listed(capsys)["entries"]) == 4


def test_an_empty_list_of_names_removes_nothing(filled, capsys):
    machine.cache(clear=[], yes=True)
    assert "removed 0 entries, 0 kB" in capsys.readouterr().out
    assert len(listed(capsys)["entries"]) == 4


def test_what_another_process_writes_is_not_removed(filled, capsys):
    with file_lock(filled / "packed" / "trees-32-0123456789ab-5" / LOCK):
        assert alexnet("cache", "--clear", "trees-32-0123456789ab-5", "--yes") == 2
    assert "another process is writing packed/trees-32-0123456789ab-5; wait until it has ended" in (
        capsys.readouterr().err)
    assert (filled / "packed" / "trees-32-0123456789ab-5" / "manifest.json").is_file()


def test_an_unfinished_pack_is_said_to_be_one(filled, capsys):
    folder = filled / "packed" / "half-32-0123456789ab-5"
    folder.mkdir()
    (folder / "unfinished.json").write_text("{}")
    assert alexnet("cache") == 0
    assert "packed/half-32-0123456789ab-5  unfinished\n" in capsys.readouterr().out


def test_an_empty_cache_is_one(capsys, tmp_path):
    assert alexnet("cache") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cache' / 'alexnet'}: nothing\n"
    assert cache_entries.cache_entries() == []
    assert alexnet("cache", "--yes") == 2


@pytest.mark.parametrize(("size", "text"), [(0, "0 kB"), (1, "1 kB"), (999_000, "999 kB"), (1_000_000, "1 MB"),
                                            (1_830_000_000, "1.8 GB")])
def test_sizes_are_in_powers_of_1000(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(("days", "text"), [(0.001, "1 min"), (0.5, "12 h"), (1.2, "1 day"), (40, "40 days")])
def test_ages(days, text):
    assert age_text(days) == text
