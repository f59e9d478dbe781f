"""Answers of a run: for arrays of any size in a notebook, for files on the command line, from the run alone."""

import csv
import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import special, stats

import jaxrec
import launch
from experiments import predictor as module
from experiments.commands import predict as command
from experiments.commands.predict import entropy
from experiments.commands.run import run as carry_out
from experiments.inputs import named_pictures
from experiments.settings.flags import from_flags
from experiments.stored import result_of
from jaxrec.data import sources
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
SMALL = [
    f"--config={ROOT}/configs/digits_cnn.py",
    "--config.train.batch_size=64",
    "--config.train.epochs=None",
    "--config.model={'name': 'MLP', 'widths': (16,)}",
]


def rows_of(file: pathlib.Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """A finished run that was chosen by its moving average, evaluated over two views."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    more = ["--config.updates.ema=0.9", "--config.test_views=mirror", "--config.train.steps=200"]
    assert launch.main([*SMALL, *more, f"--workdir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def predictor(run) -> module.Predictor:
    return jaxrec.load(run)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, digits) -> pathlib.Path:
    """The validation split as PNGs, a folder for each class."""
    root = tmp_path_factory.mktemp("validation")
    for index in digits.splits["validation"]:
        folder = root / digits.classes[digits.label[index]]
        folder.mkdir(exist_ok=True)
        Image.fromarray(digits.image[index, ..., 0]).save(folder / f"{index}.png")
    return root


def forward(folder: pathlib.Path, image: np.ndarray) -> np.ndarray:
    """Logits of uint8 images in numpy, from the checkpoint and data.json: the average's, over two views."""
    notes = json.loads((folder / "data.json").read_text())
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        params = checkpoints.read(result_of(folder)["step"])["extra"]["ema"]["params"]
    hidden, last = (jax.device_get(params[name]) for name in ("Dense_0", "Dense_1"))
    each = []
    for view in (image, image[:, :, ::-1]):
        seen = (view / 255 - np.array(notes["mean"])) / np.array(notes["std"])
        layer = np.maximum(seen.reshape(len(view), -1) @ hidden["kernel"] + hidden["bias"], 0)
        each.append(layer @ last["kernel"] + last["bias"])
    return np.mean(each, axis=0)


def test_probabilities_equal_an_independent_forward_pass(run, predictor, digits):
    image = digits.image[digits.splits["test"]]
    found, wanted = predictor(image), special.softmax(forward(run, image), axis=-1)
    assert (found.shape, found.dtype) == ((len(image), 10), np.float32)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    right = found.argmax(-1) == digits.label[digits.splits["test"]]
    assert right.mean() == pytest.approx(result_of(run)["metrics"]["test"]["ema_accuracy"])
    assert right.mean() > 0.6
    assert predictor.classes == digits.classes


def test_any_number_of_images_goes_through_one_program(run, digits, compilations):
    fresh = jaxrec.load(run, batch_size=20)
    assert fresh.batch_size == 24  # over eight devices
    compilations.clear()
    whole = fresh(digits.image[:50])
    assert whole.shape == (50, 10)
    one_program = len(compilations)
    assert one_program <= 1
    for images in (digits.image[:1], digits.image[0], digits.image[0, ..., 0], digits.image[:24, ..., 0]):
        found = fresh(images)
        np.testing.assert_array_equal(found, whole[: len(found)])
    np.testing.assert_array_equal(fresh(list(digits.image[:3])), whole[:3])
    assert fresh([]).shape == (0, 10)
    assert len(compilations) == one_program


@pytest.mark.parametrize("batch_size", [8, 16, 40])
def test_batches_are_full_and_in_order_whatever_cannot_be_read(predictor, batch_size):
    other = predictor._replace(batch_size=batch_size)
    images = [(str(index), np.full((8, 8), index % 256, np.uint8)) for index in range(300)]
    for index in (0, 7, 8, 100, 299):
        images[index] = (str(index), "nowhere.png")
    read = list(other.read(images))
    assert all(len(batch.names) + len(batch.bad) == batch_size for batch in read[:-1])
    assert [name for batch in read for name in batch.names] == [
        name for name, image in images if not isinstance(image, str)
    ]
    assert [int(p[0, 0, 0]) for batch in read for p in batch.pixels] == [
        int(name) % 256 for batch in read for name in batch.names
    ]
    assert sum(len(batch.bad) for batch in read) == 5


@pytest.mark.parametrize(
    ("images", "shape", "count"),
    [((5, 8, 4), (8, 4, 1), 5), ((5, 8, 8), (8, 8, 1), 5), ((5, 8, 4), (8, 8, 1), 1), ((9, 9, 3), (8, 8, 3), 1)],
)
def test_three_axes_are_grey_images_or_one(images, shape, count):
    """Also grey ones that are as narrow as a pixel has channels."""
    assert len(list(module._one_by_one(np.zeros(images, np.uint8), shape))) == count


def test_floats_are_what_bytes_are_once_they_are_scaled(predictor, digits):
    image = digits.image[:5]
    np.testing.assert_allclose(predictor(image / 255), predictor(image), atol=1e-6)
    mixed = predictor([image[0], image[1] / 255])
    np.testing.assert_allclose(mixed, predictor(image[:2]), atol=1e-6)


def test_images_of_any_size_are_seen_as_pillow_resizes_them(predictor, tmp_path):
    rng = np.random.default_rng(0)
    large, colours = rng.integers(0, 256, (24, 16), np.uint8), rng.integers(0, 256, (8, 8, 3), np.uint8)
    centre = Image.fromarray(large).resize((8, 8), Image.Resampling.BILINEAR, box=(0, 4, 16, 20))
    luma = Image.fromarray(colours).convert("L")
    wanted = predictor(np.stack([np.asarray(centre), np.asarray(luma)]))
    np.testing.assert_array_equal(predictor([large, colours]), wanted)
    np.testing.assert_array_equal(predictor([large / 255, colours / 255]), wanted)  # rounded to bytes
    Image.fromarray(large).save(tmp_path / "large.png")
    np.testing.assert_array_equal(predictor(tmp_path / "large.png"), wanted[:1])
    np.testing.assert_array_equal(predictor([str(tmp_path / "large.png"), colours]), wanted)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 1), np.int64), r"image 0 is int64\[8, 8, 1\]: pixels are uint8"),
        (np.full((8, 8), 16.0), r"image 0 reaches from 16 to 16: for this run floats are in \[0, 1\]"),
        ([np.zeros((8, 8)), np.full((8, 8), np.nan)], "image 1 holds NaN"),
        (np.zeros((8, 8, 5), np.uint8)[None], r"image 0 is uint8\[8, 8, 5\]"),
        (np.zeros((2, 2, 8, 8, 1), np.uint8), "images is uint8"),
        (3, "images is a int"),
        ({"image": np.zeros((2, 8, 8, 1), np.uint8)}, "images is a dict: allowed is"),
        (["nowhere.png"], "nowhere.png: "),
    ],
)
def test_what_is_no_image_is_one_line(predictor, images, message):
    with pytest.raises(InputError, match=message) as error:
        predictor(images)
    assert "\n" not in str(error.value)


def test_a_run_of_floats_beyond_unit_range_takes_no_bytes(predictor, digits):
    other = predictor._replace(unit_range=False)
    with pytest.raises(InputError, match="what scale bytes have there, it does not know"):
        other(digits.image[:1])
    np.testing.assert_allclose(other(digits.image[:2] / 255), predictor(digits.image[:2]), atol=1e-6)


def test_a_network_that_has_diverged_answers_nothing(predictor, digits):
    broken = predictor._replace(network=lambda image: np.full((len(image), 10), np.nan))
    with pytest.raises(InputError, match="has diverged"):
        broken(digits.image[:1])


def test_predicting_the_validation_pictures_gives_the_accuracy_of_the_evaluation(run, pictures, tmp_path, capsys):
    out = tmp_path / "answers.csv"
    assert launch.main(["predict", f"--run={run}", str(pictures), f"--out={out}", "--top=3"]) == 0
    rows = rows_of(out)
    right = [pathlib.Path(row["path"]).parent.name == row["class"] for row in rows]
    assert np.mean(right) == result_of(run)["metrics"]["validation"]["ema_accuracy"]
    assert list(rows[0]) == ["path", "class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
    numbers = np.array([[float(row[name]) for name in row if "probability" in name] for row in rows])
    assert (np.diff(numbers) <= 0).all()
    assert (numbers.sum(1) <= 1 + 1e-5).all()
    names = [int(pathlib.Path(row["path"]).stem) for row in rows if pathlib.Path(row["path"]).parent.name == "0"]
    assert names == sorted(names)  # 79 before 209
    assert f"{len(rows)} pictures" in capsys.readouterr().out


def test_pictures_are_cropped_as_the_run_crops_them(pictures, tmp_path):
    """A run on pictures that are larger than its images, of which it sees the centre."""
    for path in pictures.rglob("*.png"):
        folder = tmp_path / "photos" / ("train", "val", "train", "test")[int(path.stem) % 4] / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            picture.resize((15, 12), Image.Resampling.BICUBIC).save(folder / path.name)
    data = f"{{'name': 'folder', 'path': '{tmp_path}/photos', 'size': 8, 'crop': 0.7, 'channels': 1}}"
    flags = [*SMALL, f"--config.data={data}", "--config.train.steps=100", f"--workdir={tmp_path}/r"]
    assert launch.main(flags) == 0
    measured = result_of(tmp_path / "r")["metrics"]["validation"]
    words = ["predict", f"--run={tmp_path}/r", f"{tmp_path}/photos/val", f"--out={tmp_path}/a.csv"]
    assert launch.main(words) == 0
    right = [pathlib.Path(row["path"]).parent.name == row["class"] for row in rows_of(tmp_path / "a.csv")]
    assert np.mean(right) == measured["accuracy"] > 0.2
    assert launch.main(["evaluate", f"--run={tmp_path}/r", f"--data={tmp_path}/photos", "--split=validation"]) == 0
    assert json.loads((tmp_path / "r" / "evaluate_photos_validation.json").read_text())["metrics"] == measured
    assert json.loads((tmp_path / "r" / "data.json").read_text())["crop"] == 0.7


def test_neither_the_data_nor_anything_else_is_read(run, digits, monkeypatch, tmp_path):
    """The run was copied elsewhere, its data are gone; what it measured is not asked for."""
    monkeypatch.setattr(sources, "digits", lambda **_: pytest.fail("the data were read"))
    copy = shutil.copytree(run, tmp_path / "copy")
    for file in copy.glob("*.*"):
        if file.name not in ("config.json", "data.json", "result.json"):
            file.unlink()
    np.testing.assert_array_equal(jaxrec.load(copy)(digits.image[:2]), jaxrec.load(run)(digits.image[:2]))


def test_a_run_that_goes_on_answers_by_its_newest_state(tmp_path, digits):
    config, _, _ = from_flags([*SMALL, "--config.train.steps=20", "--config.train.save_every=10"])
    config["train"] |= {"log_every": 10, "keep": 2}
    carry_out(config, tmp_path / "r", until=20, finish=False)
    assert not (tmp_path / "r" / "result.json").exists()
    found = jaxrec.load(tmp_path / "r")
    assert found.step == 20
    # And by the one that it has chosen, once it is finished.
    (tmp_path / "r" / "result.json").write_text('{"step": 10, "metrics": {}, "notes": {}}')
    chosen = jaxrec.load(tmp_path / "r")
    assert chosen.step == 10
    assert (chosen(digits.image[:2]) != found(digits.image[:2])).any()
    (tmp_path / "r" / "result.json").unlink()
    (tmp_path / "r" / "data.json").unlink()
    with pytest.raises(InputError, match=r"has no data\.json, which an older version wrote when it was finished"):
        jaxrec.load(tmp_path / "r")


def test_an_older_run_is_known_by_its_result(run, tmp_path, digits):
    older = shutil.copytree(run, tmp_path / "older")
    (older / "data.json").unlink()
    result = result_of(older)
    for name in ("several", "unit_range", "crop"):
        del result["notes"][name]
    (older / "result.json").write_text(json.dumps(result))
    np.testing.assert_array_equal(jaxrec.load(older)(digits.image[:2]), jaxrec.load(run)(digits.image[:2]))
    del result["notes"]["shape"]
    (older / "result.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match="has noted of its data does not say shape: an older version"):
        jaxrec.load(older)
    (older / "data.json").write_text("{")
    with pytest.raises(InputError, match=r"data\.json: cannot be read"):
        jaxrec.load(older)


def test_no_code_of_a_package_outside_runs_unasked(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model": {"name": "theirs.nets.Net"}}))
    with pytest.raises(InputError, match="--allow=theirs"):
        jaxrec.load(copy)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "64"])
def test_a_batch_of_no_size_is_refused(run, batch_size):
    with pytest.raises(InputError, match=r"batch_size = .* allowed is a whole number, 1 or more"):
        jaxrec.load(run, batch_size=batch_size)


def test_load_says_where_experiments_would_be(monkeypatch, tmp_path):
    monkeypatch.setattr(jaxrec, "__file__", str(tmp_path / "jaxrec" / "__init__.py"))
    with pytest.raises(InputError, match="needs the folder experiments/ of jaxrec's repository"):
        jaxrec.load("anything")


def test_files_globs_arrays_and_what_cannot_be_read(run, predictor, pictures, digits, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty.png").write_bytes(b"")
    arrays = {"a_train": digits.image[:9], "y_test": np.arange(3), "x_test": digits.image[:3]}
    np.savez(tmp_path / "arrays.npz", **arrays)
    one = sorted((pictures / "1").iterdir())[0]
    words = [str(one), str(pictures / "0"), str(pictures / "[01]" / "*.png"), str(tmp_path), f"{tmp_path}/arrays.npz"]
    out = tmp_path / "answers.csv"
    assert launch.main(["predict", *words, f"--run={run}", f"--out={out}", "--allow=x"]) == 1
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in said.err.splitlines()] == [
        f"{tmp_path}/broken.png",
        f"{tmp_path}/empty.png",
    ]
    rows = rows_of(out)
    counts = [len(list((pictures / name).iterdir())) for name in ("0", "1")]
    assert len(rows) == sum(counts) + 3
    assert rows[0]["path"] == str(one)
    assert [row["path"] for row in rows[-3:]] == [f"{tmp_path}/arrays.npz[{index}]" for index in range(3)]
    assert [row["class"] for row in rows[-3:]] == [predictor.classes[k] for k in predictor(digits.image[:3]).argmax(-1)]
    assert f"{counts[0] + 1} were named more than once" in said.out
    assert "2 could not be read" in said.out
    assert launch.main(["predict", f"--run={run}", str(tmp_path / "broken.png"), f"--out={tmp_path}/none.csv"]) == 2
    assert "None of 1 pictures could be read" in capsys.readouterr().err
    assert not list(tmp_path.glob("none.csv*"))


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(run, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "PATIENCE", 0)
    assert launch.main(["predict", str(pictures), f"--run={run}", f"--out={tmp_path}/a.csv"]) == 0
    assert capsys.readouterr().err.splitlines() == [f"{done} of 144 pictures" for done in (64, 128, 144)]


def test_bad_input_is_one_line_before_anything_is_computed(run, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module.Predictor, "of_batch", lambda *_: pytest.fail("something was computed"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.npz").write_bytes(b"PK")
    np.savez(tmp_path / "labels.npz", y=np.arange(3))
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    other = shutil.copytree(run, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "gone": 1}))
    here, some, out = f"--run={run}", str(pictures), f"--out={tmp_path}/a.csv"
    for words, said in [
        ([here], "predict.images is missing"),
        ([some], "predict.run is missing"),
        ([here, some, "--top=11"], "--top=11: this run tells 10 classes apart"),
        ([here, some, "--top=0"], "predict.top = 0: allowed is a whole number, 1 or more"),
        ([here, some, f"--out={tmp_path}/nowhere/a.csv"], "nowhere/a.csv: cannot be written"),
        ([here, some, f"--out={tmp_path}"], "cannot be written (that is a folder)"),
        ([here, f"{tmp_path}/nowhere"], "nowhere: no such file or folder"),
        ([here, "long" * 200], "no such file or folder"),
        ([here, f"{tmp_path}/*.gif"], "this pattern matches no pictures"),
        ([here, f"{tmp_path}/empty"], "a folder without pictures"),
        ([here, f"{tmp_path}/emp*"], "this pattern matches no pictures"),
        ([here, f"{tmp_path}/no.npz"], "not an .npz file of plain arrays"),
        ([here, f"{tmp_path}/labels.npz"], "holds no images"),
        ([f"--run={tmp_path}/nowhere", some], "no run with checkpoints is there"),
        ([f"--run={tmp_path}/begun", some], "has saved no checkpoint yet"),
        ([f"--run={other}", some], "config.json cannot be used today. config.gone"),
        ([here, some, f"--workdir={tmp_path}"], "--workdir and predict do not go together"),
        ([here, some, "--tpo=3"], "--tpo: there is no such flag here. Did you mean 'top'?"),
    ]:
        capsys.readouterr()
        assert launch.main(["predict", *words, *([out] if not any("--out" in word for word in words) else [])]) == 2
        line = capsys.readouterr().err
        assert said in line, line
        assert line.count("\n") == 1, line
    assert not list(tmp_path.glob("a.csv*"))


def test_a_csv_replaces_no_pipe_and_no_link(run, pictures, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "real.csv").write_text("old")
    for name, target in (("to_pipe", "pipe"), ("to_csv", "real.csv")):
        (tmp_path / name).symlink_to(target)
    for name in ("pipe", "to_pipe"):
        assert launch.main(["predict", str(pictures), f"--run={run}", f"--out={tmp_path}/{name}"]) == 2
        assert f"{name}: cannot be written (a pipe or a device" in capsys.readouterr().err
    assert (tmp_path / "pipe").is_fifo()
    assert launch.main(["predict", str(pictures), f"--run={run}", f"--out={tmp_path}/to_csv"]) == 0
    assert (tmp_path / "to_csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("path,class")


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    scan = os.scandir

    def scandir(path: str):
        if str(path).endswith("below"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"below: a folder that cannot be read \(Permission denied\)"):
        named_pictures([str(tmp_path)])


def test_a_run_of_another_kind_is_named(run, pictures, tmp_path, capsys):
    folder = tmp_path / "autoencoder"
    config = json.loads((run / "config.json").read_text())
    shutil.copytree(run, folder)
    encoder, _, _ = from_flags([f"--config={ROOT}/configs/digits_autoencoder.py"])
    assert config["experiment"] != encoder["experiment"]
    (folder / "config.json").write_text(json.dumps(encoder))
    for words in (["predict", str(pictures)], ["evaluate"], ["calibrate"]):
        assert launch.main([*words, f"--run={folder}"]) == 2
        assert "a run of 'autoencode'. Name a run of 'classify'." in capsys.readouterr().err


def test_entropy_is_scipys(predictor, digits):
    for p in predictor(digits.image[:3]):
        assert entropy(p) == pytest.approx(stats.entropy(p), rel=1e-4)
    assert entropy(np.array([1.0, 0.0])) == 0
    assert entropy(np.array([0.5, 1.0]), several=True) == pytest.approx(np.log(2))


def test_a_run_of_several_labels_has_a_probability_for_each(tmp_path, digits, capsys):
    image, label = digits.image[:200], digits.label[:200]
    rows = np.stack([label % 2 == 0, label > 4, label == 3], -1).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x_train=image, y_train=rows, classes=["even", "large", "three"])
    data = f"{{'name': 'npz', 'path': '{tmp_path}/d.npz'}}"
    more = ["--config.loss={'name': 'binary_cross_entropy'}", f"--config.data={data}", "--config.train.steps=100"]
    assert launch.main([*SMALL, *more, f"--workdir={tmp_path}/r"]) == 0
    found = jaxrec.load(tmp_path / "r")
    probabilities = found(image[:20])
    np.testing.assert_allclose(probabilities, special.expit(found.logits(image[:20])), rtol=1e-5)
    np.savez(tmp_path / "x.npz", image[:20])
    words = [f"{tmp_path}/x.npz", f"--run={tmp_path}/r", f"--out={tmp_path}/a.csv", "--uncertainty"]
    assert launch.main(["predict", *words]) == 0
    answers = rows_of(tmp_path / "a.csv")
    wanted = [";".join(np.array(found.classes)[p > 0.5]) for p in probabilities]
    assert [row["classes"] for row in answers] == wanted
    assert [row["class"] for row in answers] == [found.classes[k] for k in probabilities.argmax(-1)]
    assert "calibrated_entropy" not in answers[0]
    assert launch.main(["calibrate", f"--run={tmp_path}/r"]) == 2
    assert "several labels for each image; calibration is of one" in capsys.readouterr().err
