"""The `evaluate` and `predict` commands, `alexnet.evaluate` and `alexnet.load`."""

import csv
import io
import json
import shutil

import pytest
from PIL import Image

from alexnet.models import checkpoint
from command_line import alexnet


@pytest.mark.parametrize("views", [1, 10])
def test_evaluate_prints_the_promised_json(run, class_folders, capsys, views):
    assert alexnet("evaluate", run, class_folders, "--views", views, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 44
    assert result["interval"]["top1_error"][0] <= result["top1_error"] <= result["interval"]["top1_error"][1]
    assert (result["views"], result["networks"]) == (views, 1)


def test_evaluating_best_gives_the_error_that_training_logged(run, class_folders, capsys):
    alexnet("evaluate", run / "best", class_folders, "--json")
    measured = json.loads(capsys.readouterr().out)
    saved = json.loads((run / "best" / "checkpoint.json").read_text())["errors"]
    assert measured["top1_error"] == saved["top1_error"]
    assert measured["loss"] == pytest.approx(saved["loss"], rel=1e-5)


def test_several_checkpoints_are_an_ensemble(run, class_folders, capsys):
    assert alexnet("evaluate", run / "best", run / "last", class_folders) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{run / 'best'}, {run / 'last'}: 44 images, 1 view, 2 networks, ")
    assert alexnet("evaluate", run, class_folders) == 0
    assert capsys.readouterr().out.startswith(f"{run / 'best'}: 44 images, ")


def test_a_folder_without_a_split_is_evaluated_whole(run, class_folders, capsys):
    assert alexnet("evaluate", run, class_folders / "val", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 44


def test_fewer_classes_are_matched_by_name(run, class_folders, tmp_path, capsys):
    for name in ("birch", "date palm"):
        shutil.copytree(class_folders / "val" / name, tmp_path / "few" / name)
    assert alexnet("evaluate", run, tmp_path / "few", "--json") == 0
    few = json.loads(capsys.readouterr().out)
    assert few["images"] == 22
    assert few["top1_error"] < 0.5


def test_classes_without_images_are_named(run, class_folders, tmp_path, capsys):
    assert alexnet("evaluate", run, class_folders) == 0
    assert "Not measured" not in capsys.readouterr().out
    for name in ("birch", "date palm"):
        shutil.copytree(class_folders / "val" / name, tmp_path / "few" / name)
    assert alexnet("evaluate", run, tmp_path / "few") == 0
    classes = sorted(path.name for path in (class_folders / "train").iterdir())
    missing = [name for name in classes if name not in ("birch", "date palm")]
    assert (f"\nNot measured, as there are no images of them: {', '.join(missing)} ({len(missing)} of {len(classes)} "
            "classes)\n") in capsys.readouterr().out
    assert alexnet("evaluate", run, tmp_path / "few", "--json") == 0
    assert json.loads(capsys.readouterr().out)["classes_without_images"] == missing


def test_predict_as_text_json_and_csv_agree(run, class_folders, capsys):
    image = class_folders / "val" / "birch" / "000.png"
    assert alexnet("predict", run, image) == 0
    text = capsys.readouterr().out
    alexnet("predict", run, image, "--json", "--top", 2)
    rows = json.loads(capsys.readouterr().out)
    assert alexnet("predict", run, image, "--csv", "table.csv") == 2
    assert "predict --csv prints the table, and takes no file; write > table.csv after it" in capsys.readouterr().err
    alexnet("predict", run, image, "--csv", "--top", 2)
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    best = rows[0]["classes"][0]
    assert len(rows[0]["classes"]) == len(table) == 2
    assert table[0]["class"] == best["name"]
    assert float(table[0]["probability"]) == pytest.approx(best["probability"], abs=1e-6)
    assert best["name"] in text
    assert table[0]["sure"] == "", "the network is not calibrated"


def test_the_table_of_predict_says_where_a_calibrated_network_is_not_sure(class_folders, capsys):
    """The pretrained network, on images of 32 pixels that show none of its classes."""
    assert alexnet("predict", class_folders / "val", "--top", 1, "--csv") == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(table) == 44
    assert {(row["sure"], float(row["probability"]) >= 0.5) for row in table} <= {("1", True), ("0", False)}
    assert "0" in {row["sure"] for row in table}


@pytest.mark.parametrize("engine", [[], ["--device", "cpu", "--views", "10"]], ids=["NumPy", "torch"])
def test_predict_says_which_images_the_network_was_trained_on(run, class_folders, tmp_path, capsys, engine):
    """By their content, whatever they are called."""
    copy = tmp_path / "new.png"
    shutil.copy(class_folders / "train" / "ash" / "000.png", copy)
    new = class_folders / "val" / "ash" / "000.png"
    assert alexnet("predict", run, copy, new, "--json", *engine) == 0
    printed = capsys.readouterr()
    assert [row["trained_on"] for row in json.loads(printed.out)] == [True, False]
    assert f"{run} was trained on 1 of the 2 images (trained_on in --json and --csv)" in printed.err
    assert alexnet("predict", run, copy, new, "--csv", "--top", 1, *engine) == 0
    assert [row["trained_on"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["1", "0"]
    for images, said in (([copy], "this image"), ([copy, copy], "all 2 images"), ([new], "")):
        assert alexnet("predict", run, *images, *engine) == 0
        printed = capsys.readouterr().err
        assert f"was trained on {said}, so a right answer" in printed if said else "was trained on" not in printed


def test_predict_does_not_know_the_training_images_of_weights_without_a_record(run, class_folders, tmp_path, capsys):
    """Exported without them; a copy of a training image is then neither marked nor called new."""
    image = class_folders / "train" / "ash" / "000.png"
    for options, known in (([], True), (["--no-training-hashes"], None)):
        file = tmp_path / f"{len(options)}.onnx"
        assert alexnet("export", run, file, *options) == 0
        capsys.readouterr()
        assert alexnet("predict", file, image, "--json") == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out)[0]["trained_on"] is known
        assert ("was trained on this image" in printed.err) == bool(known)


def test_predict_names_a_broken_image_and_goes_on(run, class_folders, tmp_path, capsys):
    good = class_folders / "val" / "ash" / "000.png"
    broken = tmp_path / "broken.png"
    broken.write_bytes(good.read_bytes()[:200])
    assert alexnet("predict", run, broken, good, "--json") == 2
    printed = capsys.readouterr()
    assert "broken.png" in printed.err
    assert len(json.loads(printed.out)) == 1


def test_predict_names_what_should_be_known_of_images(run, class_folders, tmp_path, capsys):
    frames = [Image.linear_gradient("L").resize((40, 40)).rotate(90 * number) for number in range(3)]
    for name in ("one.gif", "two.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "three.png")
    assert alexnet("predict", run, tmp_path, "--json") == 0
    assert capsys.readouterr().err == (
        f"note: 2 files hold several images or pages, and the first one alone is used, such as {tmp_path}/one.gif; "
        "to use the others, save each as a file of its own\n")


def test_predict_runs_images_in_batches(run, class_folders, capsys, monkeypatch):
    from alexnet.inference import classifier

    batch_sizes = []
    predict = classifier.Classifier.predict
    monkeypatch.setattr(classifier, "BATCH_SIZE", 32)
    monkeypatch.setattr(classifier.Classifier, "predict", lambda self, images, **options: (
        batch_sizes.append(len(images)), predict(self, images, **options))[1])
    assert alexnet("predict", run, class_folders / "val", "--json") == 0
    assert batch_sizes == [32, 12]
    rows = json.loads(capsys.readouterr().out)
    assert [row["image"] for row in rows] == sorted(map(str, (class_folders / "val").rglob("*.png")))


def test_load_and_predict_in_python(run, class_folders):
    import alexnet

    model = alexnet.load(run)
    guesses = model.predict(class_folders / "val" / "cedar" / "001.png")[0]
    assert sum(guess.probability for guess in guesses) == pytest.approx(1, abs=1e-5)
    assert model.classes == ("ash", "birch", "cedar", "date palm")


def test_alexnet_evaluate_agrees_with_the_command(run, class_folders, capsys):
    import alexnet as package

    assert alexnet("evaluate", run, class_folders, "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    for model in (run, str(run), package.load(run), [run]):
        errors = package.evaluate(model, class_folders, progress=False)
        assert (errors.images, errors.top1_error, errors.loss) == (44, measured["top1_error"], measured["loss"])
    assert package.evaluate([run / "best", run / "last"], class_folders, views=10, progress=False).images == 44
    assert not capsys.readouterr().err


def test_evaluate_says_which_weights_were_measured_on_which_data(run, class_folders, capsys):
    """The SHA-256 and the epoch are those of the checkpoints' files, and not what the command computed."""
    import alexnet as package

    assert alexnet("evaluate", run, run / "last", class_folders, "--split", "val", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    expected = []
    for part in ("best", "last"):
        saved = checkpoint.load(run / part)
        expected.append({"checkpoint": str(run / part), "epoch": saved.training["epoch"],
                         "sha256": saved.describe()["sha256"]})
    assert printed["models"] == expected
    assert expected[1]["epoch"] == 6
    assert (printed["data"], printed["splits"], printed["version"]) == (
        str(class_folders), ["val"], package.__version__)
    errors = package.evaluate([run, run / "last"], class_folders, split="val", progress=False)
    assert printed["classes_without_images"] == []
    assert errors.measurement == {key: value for key, value in printed.items() if key not in errors.to_json()}
    assert {"models", "measured", "temperatures", "baselines", "views", "networks"} < errors.measurement.keys()
    assert (errors + errors).images == 88
