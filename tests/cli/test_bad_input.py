"""Every bad input: one clear sentence, exit status 2, nothing half-written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import striate as st
from striate.core import machine
from striate.training.run import checkpoints_in
from tests.cli.conftest import Done, Striate, call, write_pictures
from tests.conftest import make_image_set

TEXT = "conv 4 relu | gap | fc 2"


def refused(done: Done, *parts: str) -> None:
    """Check that the command was refused with a message that has these parts, and that nothing was written."""
    assert done.status == 2, done.err
    assert done.out == ""
    assert done.err.startswith("striate:")
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err
    assert not list(Path().glob("runs/*")), "something was left behind"


def empty_folder(root: Path) -> None:
    root.mkdir()


def one_class(root: Path) -> None:
    write_pictures(root, classes=("dark",))


def not_a_picture(root: Path) -> None:
    write_pictures(root)
    (root / "dark" / "00.png").write_text("I am no picture.")


def truncated_picture(root: Path) -> None:
    write_pictures(root)
    path = root / "dark" / "00.png"
    path.write_bytes(path.read_bytes()[:-300])


def one_picture_of_a_class(root: Path) -> None:
    write_pictures(root)
    (root / "rare").mkdir()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(root / "rare" / "only.png")


def no_class_folders(root: Path) -> None:
    root.mkdir()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(root / "picture.png")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (empty_folder, ("photos", "must hold pictures in one folder per class", "got an empty folder")),
        (one_class, ("at least two classes", "dark")),
        (not_a_picture, ("00.png must be a picture (JPEG, PNG", "its content is something else.")),
        (truncated_picture, ("00.png is truncated", "Copy it again or remove it.")),
        (one_picture_of_a_class, ("Class 'rare' of", "must have at least two pictures to train on, got only one.")),
        (no_class_folders, ("must have one folder per class", "got 1 pictures and no folder")),
    ],
)
def test_pictures_that_cannot_be_used(
    striate: Striate, make: Callable[[Path], None], parts: tuple[str, ...], tmp_path: Path
) -> None:
    make(tmp_path / "photos")
    refused(striate("train", tmp_path / "photos"), *parts)


def test_no_such_data(striate: Striate) -> None:
    refused(striate("train", "nowhere/photos"), "No data set, folder, archive or table 'nowhere/photos'.")
    refused(striate("train", "minst"), "'minst'. Did you mean 'mnist'? `striate datasets` lists")


def test_a_broken_archive(striate: Striate, picture_folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.make_archive(str(tmp_path / "photos"), "gztar", picture_folder.parent, picture_folder.name))
    path.write_bytes(path.read_bytes()[:-500])
    refused(
        striate("train", path),
        "photos.tar.gz must be a whole .zip",
        "it is damaged or something else. Copy or download it",
    )


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("conv 4 relo | gap | fc 2", ("conv 4 relo | gap | fc 2\n       ^^^^ ", "Did you mean 'relu'?")),
        ("conv 4@40x40 | gap | fc 2", ("       ^^^^^ a 40×40 filter must fit into its input, which is 20×20.",)),
        ("fc 900000 | fc 900000 | fc 2", ("parameters, and training them takes about", "are free.")),
        ("conv 4 relu | gap | fc 3", ("must return logits (N, 2)", "Its last layer must have 2 outputs.")),
        ("lenet_5", ("No network named 'lenet_5'. Did you mean 'lenet5'? `striate models` lists all.",)),
        ("lenet5", ("lenet5 needs pictures of at least 28×28, got 20×20. Enlarge them with --size 28",)),
    ],
)
def test_networks_that_cannot_be_built(
    striate: Striate, picture_folder: Path, model: str, parts: tuple[str, ...]
) -> None:
    refused(striate("train", picture_folder, "--size", 20, "--model", model), *parts)


def test_a_batch_that_does_not_fit_in_memory(
    striate: Striate, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 900_000_000)
    words = ("train", picture_folder, "--size", 200, "--model", "conv 100@1x1 | conv 2@1x1 | gap | fc 2")
    done = striate(*words)
    refused(done, "batch_size must be one that fits in memory, at most about 5, got 37", "try --batch-size 5")
    assert striate(*words, "--batch-size", 5, "--epochs", 0.1).status == 0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--epoch", "3"), ("--epoch", "--epochs")),
        (("--epochs", "many"), ("epochs must be", "many")),
        (("--lr", "-1"), ("learning_rate must be greater than or equal to 0", "-1")),
        (("--opt", "adam"), ("optimizer must be 'sgd', 'adamw', 'rmsprop' or 'muon', got 'adam'",)),
        (("--epochs", "1e300"), ("epochs must be less than or equal to 1000000",)),
        (("--threads", "100000"), ("threads must be less than or equal to 1024",)),
        (("--shift", "16"), ("shift must be less than the 16 pixels of the pictures, got 16.",)),
        (("--config", "none.toml"), ("Cannot read the recipe none.toml: No such file or directory.",)),
        (("--device", "cuda", "--lr-range", "r.svg"), ("device cuda needs a CUDA GPU",)),
        (("--device", "cuda", "--auto-batch-size"), ("device cuda needs a CUDA GPU",)),
        (("--lr-range", "r.svg", "--budget", "1m"), ("--lr-range does not train, so --budget must be left out",)),
        (("--lr-range", "r.svg", "--preview", "p.png"), ("--preview does not train, so --lr-range must be left out",)),
        (("--preview", "p.png", "--output", "run"), ("--preview does not train, so --output must be left out",)),
        (("--lr-range", "r.png"), ("must end in .svg, got r.png. Try r.svg.",)),
        (("--preview", "p.jpg"), ("must end in .png, got p.jpg. Try p.png.",)),
        (("more",), ("more",)),
    ],
)
def test_words_that_mean_nothing(
    striate: Striate,
    picture_folder: Path,
    words: tuple[str, ...],
    parts: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(striate("train", picture_folder, "--size", 16, "--model", TEXT, *words), *parts)


def test_nothing_to_resume(striate: Striate) -> None:
    refused(striate("train", "--resume", "nowhere"), "There is no checkpoint in nowhere. Name the folder of a run")


def test_a_misspelt_verb(striate: Striate) -> None:
    done = striate("trian")
    refused(done)
    assert done.err == "striate: There is no verb 'trian'. Did you mean 'train'? `striate --help` lists all.\n"


def test_an_output_folder_that_cannot_be_written(striate: Striate, picture_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ("train", picture_folder, "--size", 16, "--model", TEXT, "--output")
    refused(striate(*words, tmp_path / "file" / "run"), "Cannot write to", "Name another folder with --output.")
    done = striate(*words, "/proc/striate")
    assert done.status == 2
    assert done.err.startswith("striate: Cannot write to /proc/striate: ")


def test_other_files_are_not_overwritten(striate: Striate, picture_folder: Path) -> None:
    Path("mine").mkdir()
    Path("mine/metrics.csv").write_text("mine")
    words = ("train", picture_folder, "--size", 16, "--model", TEXT, "--output", "mine")
    refused(striate(*words), "mine must be new or empty, and holds other files.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lenet5", "--input", "1x28"), "--input must be channels x height x width, such as 3x224x224, got '1x28'."),
        (("lenet5", "--input", "1x9999999999x28"), "--input must be channels x height x width"),
        (("lenet5", "--classes", "-5"), "--classes must be from 1 to 65,535, got -5."),
        (("lenet5", "--classes", "0"), "--classes must be from 1 to 65,535, got 0."),
    ],
)
def test_sizes_that_mean_nothing(striate: Striate, words: tuple[str, ...], message: str) -> None:
    refused(striate("summary", *words), message)


def test_a_run_is_not_overwritten(striate: Striate, picture_folder: Path, trained: Path) -> None:
    before = (trained / "model.safetensors").read_bytes()
    words = ("train", picture_folder, "--size", 16, "--model", TEXT, "--output", trained)
    refused(striate(*words), "holds a run already. Name another folder, or go on with it: --resume")
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("verb", ["evaluate", "predict", "summary"])
def test_a_saved_file_that_is_truncated_or_of_another_kind(
    striate: Striate, trained: Path, picture_folder: Path, verb: str
) -> None:
    picture = picture_folder / "dark" / "00.png"
    more = (picture,) if verb == "predict" else ()
    Path("cut.safetensors").write_bytes((trained / "model.safetensors").read_bytes()[:-50])
    refused(striate(verb, "cut.safetensors", *more), "cut.safetensors is truncated: it ends before its weights do.")
    shutil.copy(picture, "picture.safetensors")
    refused(striate(verb, "picture.safetensors", *more), "is not a saved network: it must be a .safetensors file")
    shutil.copy(checkpoints_in(trained)[0], "state.safetensors")
    refused(striate(verb, "state.safetensors", *more), "is a file of striate's but not a saved network.")


def test_colour_pictures_into_a_grey_network(image_set: st.ImageSet) -> None:
    """Picture files are made grey; pixels of another number of channels are a mistake."""
    network = st.build("conv 4 relu | gap | fc 3", image_set.spec)
    with pytest.raises(st.DataError, match=r"The network takes pictures with 1 channel, this one has 3\."):
        st.Classifier(network, image_set.spec).predict(np.zeros((8, 8, 3), np.uint8))
    coloured = make_image_set(channels=3)
    for use in (lambda: st.evaluate(network, coloured.test), lambda: st.fit(network, coloured, progress=False)):
        with pytest.raises(st.NetworkError, match=r"The network takes pictures with 1 channel, these have 3\."):
            use()


def test_a_picture_that_is_none(striate: Striate, trained: Path) -> None:
    Path("text.png").write_text("I am no picture.")
    refused(striate("predict", trained, "text.png"), "text.png must be a picture")


def test_an_unexpected_error_is_one_sentence_unless_debug(
    striate: Striate, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object, **options: object) -> None:
        raise ZeroDivisionError("a mistake\nof ours")

    monkeypatch.setattr("striate.cli.evaluate.load_data", fail)
    done = striate("evaluate", trained)
    assert done.status == 1
    assert (
        done.err
        == "striate: Unexpected ZeroDivisionError: a mistake of ours (run again with --debug for the traceback)\n"
    )
    with pytest.raises(ZeroDivisionError):
        striate_raising("evaluate", trained, "--debug")


def test_a_package_that_is_not_there_is_named(striate: Striate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "striate.cli.models", raising=False)
    monkeypatch.setitem(sys.modules, "striate.drawing.plot", None)
    done = striate("models")
    assert done.status == 1
    assert "The installation is not whole: " in done.err
    assert "striate.drawing.plot" in done.err


def striate_raising(*words: str | Path) -> None:
    """Run the command line without catching anything."""
    from striate.cli.app import main

    main([str(word) for word in words])


def test_a_reader_that_has_gone_is_no_error() -> None:
    command = f"{sys.executable} -m striate datasets --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_call_is_the_whole_command_line() -> None:
    assert call("--version").out.strip()


def test_flags_that_would_count_for_nothing(striate: Striate, picture_folder: Path) -> None:
    for words, parts in (
        ((picture_folder, "--data-dir", "elsewhere"), ("data_dir must be left out where no built-in set is loaded",)),
        (("digits", "--average-decay", "0.999"), ("average_decay counts only where average is ema, got average none",)),
        (("digits", "--preview", "seen.png", "--auto-batch-size"), ("--auto-batch-size must be left out with it",)),
    ):
        refused(striate("train", *words), *parts)


def test_a_folder_that_cannot_be_asked_for(striate: Striate) -> None:
    refused(striate("train", "digits", "--output", "a" * 300), "Cannot write to aaa", "File name too long")
