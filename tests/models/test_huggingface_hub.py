"""Networks on the Hugging Face Hub: upload, download, checksums, refusals, and the faults of a network."""

import json
import logging
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import alexnet
from alexnet._runtime import hub as runtime_hub
from alexnet._runtime import hub_requests
from alexnet._runtime.hub_address import is_hub_address, parse_hub_address
from alexnet.inference.metrics import Errors
from alexnet.models import checkpoint
from alexnet.models.alexnet import AlexNet
from alexnet.models.checkpoint import Checkpoint
from alexnet.models.formats.hub import MOST_BYTES
from alexnet.models.formats.huggingface import write_huggingface
from alexnet.models.formats.open_weights import open_weights
from alexnet.models.seen import SeenImages
from command_line import alexnet as command
from hub_server import TOKEN, Fault, environment, hub_server
from inprocess import encoded
from sample_images import draw
from weight_files import assert_same

pytestmark = [pytest.mark.usefixtures("one_thread"),
              pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # huggingface_hub's own call
              pytest.mark.needs("huggingface_hub", "pip install 'alexnet[hub]'")]

FILES = ["README.md", "config.json", "model.safetensors", "preprocess.safetensors"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with hub_server(monkeypatch, tmp_path / "hub cache") as server:
        yield server


@pytest.fixture
def saved(tiny):
    seen = SeenImages.of(np.arange(30, dtype=np.uint64), np.empty(0, np.uint64), np.empty((0, 2), np.uint64))
    return Checkpoint(tiny, ("ash", "birch", "cedar", "date palm"), AlexNet(tiny, 1).state_dict(),
                      torch.full((1, 1, 3), 120.0), errors=Errors(400, 100.0, 50, 4).to_json(), seen=seen)


@pytest.fixture
def run(saved, tmp_path):
    checkpoint.save(saved, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def trees(hub, saved, tmp_path):
    """The repository me/trees, which holds the network."""
    write_huggingface(saved, tmp_path / "trees")
    return hub.add("me/trees", tmp_path / "trees")


def refused(capsys, *arguments):
    """What a command that ends with code 2 prints on standard error: one sentence without the token."""
    assert command(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert TOKEN not in printed.err
    return printed.err.splitlines()[-1]


def assert_nothing_was_written(hub):
    assert not [request for request in hub.requests if request.startswith(("POST", "PUT"))]


# --- Addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "repository", "revision"), [
    ("hf://me/trees", "me/trees", "main"), ("hf://me/trees@v1.0", "me/trees", "v1.0"),
    ("hf:/me/trees", "me/trees", "main"), ("hf://My-Org/a_b.c@refs/pr/3", "My-Org/a_b.c", "refs/pr/3")])
def test_an_address_has_a_repository_and_a_revision(text, repository, revision):
    address = parse_hub_address(text)
    assert (address.repository, address.revision) == (repository, revision)


@pytest.mark.parametrize("text", ["hf://trees", "hf://me/trees/best", "hf://datasets/me/trees", "hf://me/trees@",
                                  "hf://", "hf://me/tr ees", "hf://mé/trees"])
def test_another_form_is_refused_before_any_request(text, hub, capsys):
    assert is_hub_address(text)
    assert refused(capsys, "predict", text, "x.jpg") == (
        f"alexnet: {text} does not name a model on the Hugging Face Hub; write hf://USER/NAME, or "
        "hf://USER/NAME@REVISION")
    assert hub.requests == []


# --- Upload and download ----------------------------------------------------------------------------------------------


def test_there_and_back_is_bit_equal(hub, run, saved, capsys):
    assert command("export", run, "hf://me/trees") == 0
    printed = capsys.readouterr()
    repo = hub.repos["me/trees"]
    assert sorted(repo.commits[-1]) == [".gitattributes", *FILES]
    assert not repo.private
    for words in (f"hf://me/trees: {hub.url}/me/trees/commit/{repo.ids[-1]} (a new repository, public: everyone can "
                  "download it).", "model.safetensors", 'alexnet.load("hf://me/trees")'):
        assert words in printed.out
    assert TOKEN not in printed.out + printed.err
    assert_same(saved, open_weights("hf://me/trees"))
    assert capsys.readouterr().err.startswith(f"hf://me/trees: commit {repo.ids[-1][:12]}, downloading ")
    model = alexnet.load("hf://me/trees")
    assert model.classes == saved.classes
    assert model.seen.trained.tolist() == list(range(30))
    assert f"commit {repo.ids[-1][:12]}, in the cache " in capsys.readouterr().err


def test_the_card_says_what_a_stranger_needs(hub, run):
    assert command("export", run, "hf://me/trees") == 0
    card = hub.repos["me/trees"].commits[-1]["README.md"].decode()
    # Wilson's interval of 50 errors in 400 is 9.61% to 16.10%, by hand.
    for words in ("# trees", 'alexnet.load("hf://me/trees")', "| top-1 | 12.50% | 9.61% to 16.10% |", "## Calibration",
                  "not calibrated", "## Intended use", "--init hf://me/trees", "## Training data",
                  "30 images of 4 classes", "license of the images were not recorded", "## Limits", "## Checksums",
                  "| `model.safetensors` | `"):
        assert words in card


def test_only_an_upload_with_private_makes_a_private_repository(hub, run, capsys):
    assert command("export", run, "hf://me/secret", "--private") == 0
    assert hub.repos["me/secret"].private
    assert "(a new repository, private)" in capsys.readouterr().out


def test_an_upload_to_a_network_of_ours_is_a_new_commit_that_names_the_one_before(hub, run, saved, trees, capsys):
    trees.commits[0]["notes.txt"] = b"mine"
    before = trees.ids[0]
    checkpoint.save(replace(saved, classes=tuple("wxyz")), run)
    assert command("export", run, "hf://me/trees") == 0
    assert f"the files before remain in its history, at commit {before[:12]}" in capsys.readouterr().out
    assert trees.commits[-1]["notes.txt"] == b"mine"
    assert open_weights("hf://me/trees").classes == tuple("wxyz")
    assert open_weights(f"hf://me/trees@{before}").classes == saved.classes
    assert hub.messages[-1].startswith("AlexNet (small, 4 classes), weights ")


def test_an_upload_of_what_is_there_changes_nothing(hub, run, capsys):
    assert command("export", run, "hf://me/trees") == 0
    commits = len(hub.repos["me/trees"].commits)
    assert command("export", run, "hf://me/trees") == 0
    assert "it has these files already, and nothing was changed" in capsys.readouterr().out
    assert len(hub.repos["me/trees"].commits) == commits


def test_every_command_that_takes_a_network_takes_an_address(trees, hub, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").write_bytes(encoded(draw(np.random.default_rng(1), 2)))
    assert command("predict", "hf://me/trees", tmp_path / "a.png", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)[0]["classes"]) == 4
    assert command("explain", "hf://me/trees") == 0
    assert command("import", "hf://me/trees", tmp_path / "imported") == 0
    assert checkpoint.load(tmp_path / "imported").classes == ("ash", "birch", "cedar", "date palm")
    assert command("export", "hf://me/trees", tmp_path / "folder") == 0
    assert_same(open_weights(tmp_path / "folder"), open_weights("hf://me/trees"))


def test_a_command_that_writes_into_a_checkpoint_says_how_to_get_one(hub, capsys, class_folders):
    line = refused(capsys, "calibrate", "hf://me/trees", class_folders)
    assert "download it as a checkpoint (alexnet import hf://me/trees OUT), and name OUT" in line
    assert hub.requests == []


def test_another_process_finds_the_hub_by_its_environment(hub, trees, tmp_path):
    code = "import alexnet; print(alexnet.load('hf://me/trees').classes[0])"
    done = subprocess.run([sys.executable, "-c", code], env=environment(hub, tmp_path / "home"), text=True,
                          capture_output=True, check=True)
    assert done.stdout == "ash\n"
    assert str(tmp_path / "home") in done.stderr


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "preprocess.safetensors"])
def test_a_file_that_the_hub_states_too_large_is_not_downloaded(file, trees, hub, monkeypatch, capsys):
    size = len(trees.commits[-1][file])
    monkeypatch.setitem(MOST_BYTES, file, size - 1)
    assert refused(capsys, "predict", "hf://me/trees", "x.jpg") == (
        f"alexnet: {file} of hf://me/trees has {size:,} bytes, more than {size - 1:,}; name a repository that `alexnet "
        "export RUN hf://USER/NAME` wrote")
    assert not [request for request in hub.requests if "/resolve/" in request]


def test_no_more_bytes_are_received_than_the_hub_states(trees, hub, tmp_path, capsys):
    hub.excess = 300_000_000
    line = refused(capsys, "predict", "hf://me/trees", "x.jpg")
    assert re.fullmatch(rf"alexnet: {hub.url}/me/trees/resolve/\w{{40}}/model.safetensors sends more than the "
                        r"[\d,]+ bytes that this file may have; check the address", line)
    assert hub.sent < 50_000_000  # what the buffers of the sockets took
    files = {path.name for path in (tmp_path / "hub cache").rglob("*") if path.is_file()}
    assert files == {"config.json", f"{trees.ids[0]}-config.json"}


def test_a_small_stated_size_limits_a_large_file(trees, hub, tmp_path, capsys):
    hub.stated["model.safetensors"] = 1000
    assert "sends more than the 1,000 bytes" in refused(capsys, "predict", "hf://me/trees", "x.jpg")
    assert not [*(tmp_path / "hub cache").rglob("*.part")]


def test_a_file_without_a_stated_size_has_the_limit_of_its_kind(trees, hub, saved, monkeypatch, capsys):
    hub.stated["model.safetensors"] = None
    monkeypatch.setitem(MOST_BYTES, "model.safetensors", 1001)
    assert "sends more than the 1,001 bytes" in refused(capsys, "predict", "hf://me/trees", "x.jpg")


def test_a_compressed_answer_is_refused_and_not_expanded(trees, hub, tmp_path, capsys):
    hub.compresses = True
    line = refused(capsys, "predict", "hf://me/trees", "x.jpg")
    assert "config.json compressed (gzip), although that was not asked for; try again later, or set HF_END" in line
    assert not [path for path in (tmp_path / "hub cache").rglob("*") if path.is_file()]


def test_what_the_hub_says_about_a_repository_is_limited_too(trees, hub, monkeypatch, capsys):
    monkeypatch.setattr(runtime_hub, "_INFO_BYTES", 100)
    assert refused(capsys, "predict", "hf://me/trees", "x.jpg") == (
        f"alexnet: the hub at {hub.url} sends more than 100 bytes about hf://me/trees; name another repository")


@pytest.mark.parametrize("stated", [{"sha": "../../outside"}, {"sha": None}, {"siblings": 5}, {"siblings": [[]]}])
def test_an_answer_that_is_not_a_hubs_is_refused(stated, trees, hub, tmp_path, capsys):
    hub.stated = stated
    assert refused(capsys, "predict", "hf://me/trees", "x.jpg") == (
        f"alexnet: {hub.url} does not answer as a hub does about hf://me/trees; check HF_ENDPOINT")
    assert not (tmp_path / "hub cache").exists()


def test_a_redirect_to_another_host_does_not_get_the_token(trees, hub, saved):
    hub.elsewhere = hub.url.replace("127.0.0.1", "localhost")
    assert_same(saved, open_weights("hf://me/trees"))
    tokens = {(host.partition(":")[0], token) for host, token in hub.tokens}
    assert tokens == {("127.0.0.1", f"Bearer {TOKEN}"), ("localhost", None)}


@pytest.mark.parametrize(("elsewhere", "words"), [
    ("http://10.0.0.1", "the hub redirects to 10.0.0.1, a private address; set HF_ENDPOINT"),
    ("ftp://localhost", "127.0.0.1 redirects to ftp://localhost/me/trees")])
def test_a_redirect_stays_in_the_public_network_and_on_http(elsewhere, words, trees, hub, monkeypatch, capsys):
    monkeypatch.setattr(hub_requests, "is_private", lambda host: host.startswith("10."))  # 127.0.0.1 is public here
    hub.elsewhere = elsewhere
    assert words in refused(capsys, "predict", "hf://me/trees", "x.jpg")


# --- The cache --------------------------------------------------------------------------------------------------------


def downloads(hub, file="model.safetensors"):
    return [request for request in hub.requests if request.startswith("GET") and request.endswith(file)]


def test_the_cache_is_one_that_huggingface_hub_reads_and_writes(trees, hub, saved, tmp_path):
    from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache

    open_weights("hf://me/trees")
    seen = scan_cache_dir(tmp_path / "hub cache")
    assert not seen.warnings
    (repo,) = seen.repos
    (revision,) = repo.revisions
    assert (repo.repo_id, revision.commit_hash, revision.refs) == ("me/trees", trees.ids[0], {"main"})
    sizes = {file.file_name: file.size_on_disk for file in revision.files}
    assert sizes == {file: len(trees.commits[0][file]) for file in FILES[1:]}
    assert try_to_load_from_cache("me/trees", "config.json")
    assert len(downloads(hub)) == 1
    hf_hub_download("me/trees", "model.safetensors")
    assert len(downloads(hub)) == 1
    shutil.rmtree(tmp_path / "hub cache")
    for file in FILES[1:]:
        hf_hub_download("me/trees", file)
    assert_same(saved, open_weights("hf://me/trees"))
    assert len(downloads(hub)) == 2


def test_a_commit_with_the_same_weights_downloads_only_what_differs(trees, hub):
    open_weights("hf://me/trees")
    trees.commits.append({**trees.commits[0], "README.md": b"new"})
    open_weights("hf://me/trees")
    assert len(downloads(hub)) == 1
    assert len(downloads(hub, "config.json")) == 2


def test_several_at_once_download_a_file_once(trees, hub, saved):
    with ThreadPoolExecutor(4) as pool:
        for opened in pool.map(open_weights, ["hf://me/trees"] * 4):
            assert_same(saved, opened)
    assert len(downloads(hub)) == 1


def test_a_cut_download_is_resumed_by_the_next_command(trees, hub, saved, capsys):
    hub.faults.append(Fault("GET .*resolve/.*/model", 0))
    assert "cannot be reached for hf://me/trees" in refused(capsys, "predict", "hf://me/trees", "x.jpg")
    hub.faults.clear()
    hub.ranges.clear()
    assert_same(saved, open_weights("hf://me/trees"))
    (resumed,) = filter(None, hub.ranges)
    assert int(resumed.removeprefix("bytes=").removesuffix("-")) > len(trees.commits[0]["model.safetensors"]) // 2


def test_without_symbolic_links_the_cache_has_files(trees, hub, saved, monkeypatch, tmp_path):
    def refuse(self, target):
        raise OSError

    monkeypatch.setattr(Path, "symlink_to", refuse)
    for _ in range(2):
        assert_same(saved, open_weights("hf://me/trees"))
    assert len(downloads(hub)) == 1


def test_a_cache_that_cannot_be_written_is_one_sentence(trees, hub, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    line = refused(capsys, "predict", "hf://me/trees", "x.jpg")
    assert f"cannot be kept in {tmp_path}/file/cache/models--me--trees/blobs (not a directory); make that " in line
    assert line.endswith("make that folder writable, or set HF_HUB_CACHE to a folder that is")


# --- Refused before any upload ----------------------------------------------------------------------------------------


def test_an_upload_without_a_token_makes_no_request(hub, run, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    line = refused(capsys, "export", run, "hf://me/trees")
    assert "needs an access token; make one with write permission" in line
    assert hub.requests == []


@pytest.mark.parametrize(("files", "words"), [
    ({"pytorch_model.bin": b"x", "config.json": b'{"model_type": "bert"}'}, "config.json, pytorch_model.bin"),
    ({"model.safetensors": b"x"}, "model.safetensors"), ({"data.csv": b"x"}, "data.csv"),
    ({"config.json": b"[" * 100_000}, "config.json")])
def test_a_repository_with_another_model_is_left_alone(files, words, hub, run, capsys):
    hub.add("me/bert", files)
    line = refused(capsys, "export", run, "hf://me/bert")
    assert line == f"alexnet: hf://me/bert holds another model, or other files: {words}; name a new repository"
    assert_nothing_was_written(hub)


def test_a_repository_that_was_created_on_the_website_is_filled(hub, run):
    hub.add("me/trees", {".gitattributes": b"", "README.md": b"soon"})
    assert command("export", run, "hf://me/trees") == 0
    assert set(FILES) < set(hub.repos["me/trees"].commits[-1])


@pytest.mark.parametrize(("arguments", "words"), [
    (["hf://me/trees@v1"], "an upload is a new commit of the branch main; name hf://me/trees"),
    (["hf://me/trees", "--private"], "hf://me/trees exists and is public; make it private in its settings"),
    (["hf://me/trees", "--to", "onnx"], "leave out all options but --private"),
    (["hf://me/trees", "--from-pixels"], "leave out all options but --private"),
    (["folder", "--private"], "--private is for an upload to hf://USER/NAME; leave it out")])
def test_an_impossible_upload_is_refused(arguments, words, hub, trees, run, capsys):
    assert words in refused(capsys, "export", run, *arguments)
    assert_nothing_was_written(hub)


def test_one_address_alone_uploads_nothing(hub, capsys):
    assert "export needs OUT after the checkpoint hf://me/trees" in refused(capsys, "export", "hf://me/trees")
    assert hub.requests == []


# --- Refused downloads ------------------------------------------------------------------------------------------------


def test_a_repository_of_another_package_is_refused_before_its_weights(hub, capsys):
    hub.add("you/bert", {"config.json": b'{"model_type": "bert"}', "pytorch_model.bin": b"x"})
    hub.add("you/like", {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x" * 1000,
                         "preprocess.safetensors": b"x"})
    assert refused(capsys, "predict", "hf://you/bert", "x.jpg") == (
        "alexnet: hf://you/bert holds no network of this package: it lacks model.safetensors, "
        "preprocess.safetensors; name a repository that `alexnet export RUN hf://USER/NAME` wrote")
    assert "hf://you/like/config.json does not describe a network of this package" in refused(
        capsys, "predict", "hf://you/like", "x.jpg")
    assert not [request for request in hub.requests if request.endswith((".bin", ".safetensors"))]


@pytest.mark.parametrize("file", ["model.safetensors", "preprocess.safetensors"])
def test_a_wrong_checksum_on_the_hub_is_refused(file, hub, trees):
    trees.commits[0][file] = trees.commits[0][file][:-1] + b"\xff"
    with pytest.raises(ValueError, match=rf"{file} of hf://me/trees at commit {trees.ids[0][:12]} is damaged: its SHA"):
        open_weights("hf://me/trees")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_damaged_file_in_the_cache_is_downloaded_again(file, hub, trees, saved, tmp_path):
    open_weights("hf://me/trees")
    (cached,) = (tmp_path / "hub cache").rglob(file)
    cached.resolve().write_bytes(b"damaged")
    assert_same(saved, open_weights("hf://me/trees"))
    hub.faults.append(Fault(".", 503))
    cached.resolve().write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"config\.json does not describe|is damaged: its SHA-256 is"):
        open_weights("hf://me/trees")


def test_a_private_repository_needs_the_token(hub, trees, monkeypatch, capsys):
    trees.private = True
    assert open_weights("hf://me/trees").classes[0] == "ash"
    monkeypatch.delenv("HF_TOKEN")
    assert refused(capsys, "predict", "hf://me/trees", "x.jpg") == (
        f"alexnet: the hub at {hub.url} has no hf://me/trees, or it is private and you may not read it; check the "
        "name; for a private one, log in with `hf auth login`, or set HF_TOKEN")


def test_a_missing_revision_a_gated_repository_and_a_wrong_token_are_named(hub, trees, monkeypatch, capsys):
    assert "hf://me/trees@v9 does not exist: the repository has no such revision" in refused(
        capsys, "predict", "hf://me/trees@v9", "x.jpg")
    trees.gated = True
    assert "hf://me/trees is gated; ask for access" in refused(capsys, "predict", "hf://me/trees", "x.jpg")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "rejects your access token; make a new one" in refused(capsys, "predict", "hf://me/trees", "x.jpg")


# --- Faults of the network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "words"), [
    (Fault("GET /api", 500), "answers 500 about hf://me/trees"),
    (Fault("GET /api", 429), "answers 429 about hf://me/trees"),
    (Fault("GET /api", 0), "cannot be reached for hf://me/trees"),
    (Fault("resolve/.*/model", 500), "answers 500 about hf://me/trees"),
    (Fault("GET .*resolve/.*/model", 0), "hf://me/trees")])
def test_a_failing_download_is_one_sentence_and_loads_later(fault, words, hub, trees, saved, capsys):
    hub.faults.append(fault)
    assert words in refused(capsys, "predict", "hf://me/trees", "x.jpg")
    hub.faults.clear()
    assert_same(saved, open_weights("hf://me/trees"))


def test_a_connection_that_is_cut_once_is_resumed(hub, trees, saved):
    hub.faults.append(Fault("GET .*resolve/.*/model", 0, times=1))
    assert_same(saved, open_weights("hf://me/trees"))


def test_without_a_connection_the_cache_is_used_and_that_is_said(hub, trees, saved, monkeypatch, capsys):
    open_weights("hf://me/trees")
    capsys.readouterr()
    hub.faults.append(Fault(".", 503))
    assert_same(saved, open_weights("hf://me/trees"))
    printed = capsys.readouterr().err
    assert printed.startswith(f"note: the hub at {hub.url} answers 503 about hf://me/trees; using commit ")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert_same(saved, open_weights("hf://me/trees"))
    with pytest.raises(ValueError, match="hf://me/other needs a connection, and HF_HUB_OFFLINE is set; unset it"):
        open_weights("hf://me/other")
    assert hub.requests == []


@pytest.mark.parametrize(("fault", "words", "state"), [
    (Fault("repos/create", 403, "no rights for you"), "(no rights for you); check the user name", ""),
    (Fault("repos/create", 401, "Invalid credentials in Authorization header"), "rejects your access token", ""),
    (Fault("preupload", 403), "does not permit this", "was created, and is empty"),
    (Fault("PUT /lfs", 500), "answers 500", "was created, and is empty"),
    (Fault("PUT /lfs", 0), "cannot be reached", "was created, and is empty"),
    (Fault("commit/main", 500), "answers 500", "was created, and is empty"),
    (Fault("commit/main", 0), "cannot be reached", "unless"),
    (Fault("commit/main", 412), "was changed at the same time", "was created, and is empty")])
def test_a_failing_upload_says_what_is_on_the_hub_then(fault, words, state, hub, run, capsys):
    hub.faults.append(fault)
    line = refused(capsys, "export", run, "hf://me/trees")
    assert words in line
    assert state in line
    assert len(hub.repos["me/trees"].commits if state else [1]) == 1, "no commit"


def test_a_token_that_the_server_repeats_is_not_printed(hub, run, capsys):
    hub.faults.append(Fault("repos/create", 403, f"the token {TOKEN} may not"))
    assert "(the token ... may not)" in refused(capsys, "export", run, "hf://me/trees")


def test_nothing_logs_the_token(hub, run, caplog):
    caplog.set_level(logging.DEBUG)
    assert command("export", run, "hf://me/trees") == 0
    assert caplog.records
    assert TOKEN not in caplog.text


def test_without_huggingface_hub_the_extra_is_named(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for arguments in (["predict", "hf://me/trees", "x.jpg"], ["export", run, "hf://me/trees"]):
        line = refused(capsys, *arguments)
        assert line.startswith("alexnet: the Hugging Face Hub needs huggingface_hub; pip install ")
        assert line.endswith('[hub]"')
