"""The `check`, `pack` and `verify` commands, and `alexnet.check`."""

import json

from command_line import SMALL, alexnet


def test_pack_then_train_on_the_packed_folder(class_folders, tmp_path, capsys):
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert "4 classes, 120 train, 44 val, 32x32 pixels, raw" in capsys.readouterr().out
    assert alexnet("train", tmp_path / "packed", *SMALL, "--epochs", 1, "--out", tmp_path / "run") == 0


def test_verify_names_the_shard_with_a_flipped_bit(class_folders, tmp_path, capsys):
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert alexnet("verify", tmp_path / "packed") == 0
    assert "all 9 files have the right checksum" in capsys.readouterr().out
    shard = tmp_path / "packed" / "train-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert alexnet("verify", tmp_path / "packed") == 2
    assert "train-00000.npy is damaged: its checksum does not match" in capsys.readouterr().err


def test_check_shows_classes_splits_and_counts_and_writes_nothing(class_folders, tmp_path, capsys):
    import alexnet as package

    summary = package.check(class_folders)
    assert summary.classes == ("ash", "birch", "cedar", "date palm")
    assert summary.images == {"train": dict.fromkeys(summary.classes, 30), "val": dict.fromkeys(summary.classes, 11)}
    assert alexnet("check", class_folders) == 0
    printed = capsys.readouterr().out
    assert printed == f"{summary}\n"
    assert "4 classes; images: 120 train, 44 val" in printed
    assert any(line.split() == ["date", "palm", "30", "11"] for line in printed.splitlines())
    assert not (tmp_path / "cache").exists()
    assert alexnet("pack", class_folders, tmp_path / "packed") == 0
    assert package.check(tmp_path / "packed").images == summary.images
    capsys.readouterr()
    assert alexnet("check", class_folders, "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"]["val"]["birch"] == 11
