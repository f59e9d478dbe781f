"""A run measured again: its own numbers, other data by name, corrupted images, calibration."""

import csv
import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import optimize, special, stats

import jaxrec
import launch
from experiments import evaluation
from experiments.corruptions import CORRUPTIONS, at_strength
from experiments.evaluation import _numbers, evaluation_of
from experiments.stored import result_of
from jaxrec import augment
from jaxrec.data import transforms
from jaxrec.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]


def rows_of(file: pathlib.Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    flags = [
        f"--config={ROOT}/configs/digits_cnn.py",
        "--config.train.batch_size=64",
        "--config.train.epochs=None",
        "--config.train.steps=200",
        "--config.model={'name': 'MLP', 'widths': (16,)}",
        "--config.updates.ema=0.9",
    ]
    assert launch.main([*flags, f"--workdir={folder}"]) == 0
    return folder


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_metrics_of_a_split_are_those_of_the_run(run, split, capsys):
    assert launch.main(["evaluate", f"--run={run}", f"--split={split}"]) == 0
    found = json.loads((run / f"evaluate_{split}.json").read_text())
    assert found["metrics"] == result_of(run)["metrics"][split]
    assert (found["step"], found["data"]["name"]) == (result_of(run)["step"], "digits")
    assert found["examples"] == {"train": 1293, "validation": 144, "test": 360}[split]
    said = f"step {found['step']} of {run}, its own data: {found['examples']:,} examples"
    assert said in capsys.readouterr().out.replace("\n", "")


def test_the_run_itself_stays_as_it_is(run):
    def content() -> dict[str, str]:
        files = [
            *(run / "checkpoints").rglob("*"),
            *(run / name for name in ("config.json", "result.json", "data.json")),
        ]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}

    before = content()
    assert launch.main(["evaluate", f"--run={run}"]) == launch.main(["calibrate", f"--run={run}"]) == 0
    assert content() == before


def test_other_data_are_scaled_as_the_run_scaled_its_own(run, digits, tmp_path):
    """And their classes are found by name: here they come in another order."""
    ids, order = digits.splits["test"], np.random.default_rng(0).permutation(10)
    number = np.argsort(order)  # of a class in the file
    dark, label = digits.image[ids] // 2, number[digits.label[ids]]
    arrays = {
        f"{letter}_{split}": values for letter, values in (("x", dark), ("y", label)) for split in ("train", "test")
    }
    np.savez(tmp_path / "dark.npz", **arrays, classes=np.array(digits.classes)[order])
    assert launch.main(["evaluate", f"--run={run}", f"--data={tmp_path}/dark.npz"]) == 0
    file = run / "evaluate_dark_test.json"
    right = jaxrec.load(run)(dark).argmax(-1) == digits.label[ids]
    assert json.loads(file.read_text())["metrics"]["ema_accuracy"] == pytest.approx(right.mean())
    assert 0.2 < right.mean() < result_of(run)["metrics"]["test"]["ema_accuracy"]


def test_a_folder_of_pictures_is_read_as_predict_reads_it(run, digits, tmp_path):
    ids = digits.splits["validation"]
    for index in ids:
        folder = tmp_path / "photos" / digits.classes[digits.label[index]]
        folder.mkdir(parents=True, exist_ok=True)
        enlarged = Image.fromarray(digits.image[index, ..., 0]).resize((16, 16), Image.Resampling.NEAREST)
        enlarged.convert("RGB").save(folder / f"{index}.png")
    assert launch.main(["evaluate", f"--run={run}", f"--data={tmp_path}/photos", "--split=all"]) == 0
    file = run / "evaluate_photos_all.json"
    paths = sorted((tmp_path / "photos").rglob("*.png"))
    answers = jaxrec.load(run)(paths).argmax(-1)
    right = [path.parent.name == digits.classes[answer] for path, answer in zip(paths, answers, strict=True)]
    assert json.loads(file.read_text())["metrics"]["ema_accuracy"] == pytest.approx(np.mean(right))


def test_classes_are_matched_by_name_or_else_by_number():
    assert _numbers(["b", "a"], ["a", "b", "c"], False, "it").tolist() == [1, 0]
    assert _numbers(["a", "b"], ["a", "b"], False, "it") is None
    for theirs, ours in ((["0", "1"], ["cat", "dog"]), (["cat", "dog"], ["0", "1"])):
        with pytest.warns(UserWarning, match=f"it: classes {theirs[0]}, .* and the run's {ours[0]}, .* by number"):
            assert _numbers(theirs, ours, False, "it") is None
    for theirs, several in ((["a", "d"], False), (["0", "1"], False), (["a", "b"], True)):
        with pytest.raises(InputError, match=r"it: classes .*, which the run does not know; its own are a, b, c"):
            _numbers(theirs, ["a", "b", "c"], several, "it")


def test_columns_of_several_labels_are_matched_by_name(tmp_path, digits):
    image, label = digits.image[:64], digits.label[:64]
    rows = np.stack([label % 2, label > 4, label == 3], -1).astype(np.uint8)
    names = ["odd", "large", "three"]
    for name, columns in (("mine", [0, 1, 2]), ("theirs", [1, 2, 0])):
        part, classes = rows[:, columns], [names[column] for column in columns]
        splits = {"x_train": image, "y_train": part, "x_test": image, "y_test": part, "classes": classes}
        np.savez(tmp_path / f"{name}.npz", **splits)
    flags = [
        f"--config={ROOT}/configs/digits_cnn.py",
        f"--config.data={{'name': 'npz', 'path': '{tmp_path}/mine.npz'}}",
        "--config.train={'batch_size': 32, 'steps': 20}",
        "--config.model={'name': 'MLP', 'widths': (8,)}",
        "--config.loss={'name': 'binary_cross_entropy'}",
        f"--workdir={tmp_path}/r",
    ]
    assert launch.main(flags) == 0
    assert launch.main(["evaluate", f"--run={tmp_path}/r", f"--data={tmp_path}/theirs.npz"]) == 0
    file = tmp_path / "r" / "evaluate_theirs_test.json"
    assert json.loads(file.read_text())["metrics"] == result_of(tmp_path / "r")["metrics"]["test"]


def test_corrupted_images_are_a_table_and_a_picture_and_the_same_each_time(run, capsys):
    command = ["evaluate", f"--run={run}", "--corrupt=gaussian_noise,salt_and_pepper"]
    assert launch.main(command) == 0
    first = (run / "corrupt_test.csv").read_text()
    said = capsys.readouterr().out
    assert launch.main(command) == 0
    assert (run / "corrupt_test.csv").read_text() == first
    rows = rows_of(run / "corrupt_test.csv")
    assert [(row["corruption"], row["level"]) for row in rows] == [
        ("none", "0"),
        *((name, str(level)) for name in ("gaussian_noise", "salt_and_pepper") for level in range(1, 6)),
    ]
    accuracy = [float(row["ema_accuracy"]) for row in rows]
    assert accuracy[0] == result_of(run)["metrics"]["test"]["ema_accuracy"]
    assert accuracy[0] > accuracy[5]
    assert accuracy[0] > accuracy[10]
    assert f"gaussian_noise {100 * np.mean(accuracy[1:6]):.2f} %" in said
    entries = json.loads((run / "corrupt_test.json").read_text())["metrics"]
    assert [entry["ema_accuracy"] for entry in entries] == accuracy
    assert (run / "corrupt_test.png").stat().st_size > 1000


def test_the_noise_is_as_strong_as_it_says(run, digits):
    """What the network is shown, against numpy: grey images, so that nothing is cut off at 0 or 1."""
    grey = {"image": np.full((64, 8, 8, 1), 128, np.uint8), "id": np.arange(64), "seed": np.zeros(64, np.uint32)}
    for strength in CORRUPTIONS["gaussian_noise"].strengths[:3]:
        change = transforms.corrupted([at_strength("gaussian_noise", strength)])
        assert float(change(grey)["image"].std()) == pytest.approx(strength, rel=0.05)
    for strength in CORRUPTIONS["salt_and_pepper"].strengths:
        image = transforms.corrupted([at_strength("salt_and_pepper", strength)])(grey)["image"]
        assert float(jnp.mean((image == 0) | (image == 1))) == pytest.approx(strength, abs=0.02)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_an_augmentation_at_five_growing_strengths(name):
    strengths = CORRUPTIONS[name].strengths
    assert hasattr(augment, name)
    assert len(strengths) == 5
    assert list(strengths) == sorted(set(strengths))
    for strength in (strengths[0], strengths[-1]):
        function = at_strength(name, strength)
        shape = jax.eval_shape(jax.vmap(function), jnp.zeros((2, 8, 8, 3)), jax.random.split(jax.random.key(0), 2))
        assert shape.shape == (2, 8, 8, 3)


def test_the_page_has_the_strengths():
    page = (ROOT / "docs" / "predict.md").read_text()
    for name, row in CORRUPTIONS.items():
        assert f"| `{name}` | `{row.argument}` | {', '.join(f'{value:g}' for value in row.strengths)} |" in page


def test_strengths_of_one_corruption_share_a_program(run, digits, compilations):
    found = evaluation_of(run, "run")
    counts = []
    for strength in CORRUPTIONS["masking"].strengths[:3]:
        change = transforms.corrupted([at_strength("masking", strength)])
        compilations.clear()
        found.metrics(found.batches("validation", change))
        counts.append(len(compilations))
    assert counts[1] == counts[2] == 0


def test_calibration_is_scipys_and_changes_no_answer(run, digits, tmp_path, capsys):
    assert launch.main(["calibrate", f"--run={run}"]) == 0
    assert "validation" in capsys.readouterr().out
    stored = json.loads((run / "calibration.json").read_text())
    predictor = jaxrec.load(run)
    ids = digits.splits["validation"]
    logits, label = predictor.logits(digits.image[ids]), digits.label[ids]

    def nll(temperature: float) -> float:
        return -special.log_softmax(logits.astype(float) / temperature, axis=-1)[np.arange(len(ids)), label].mean()

    wanted = optimize.minimize_scalar(nll, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8}).x
    assert stored["temperature"] == predictor.temperature == pytest.approx(wanted, rel=1e-3)
    assert stored["before"]["nll"] == pytest.approx(nll(1), rel=1e-5)
    assert stored["after"]["nll"] == pytest.approx(nll(wanted), rel=1e-5)
    assert stored["before"]["ece"] == pytest.approx(result_of(run)["metrics"]["validation"]["ema_ece"], rel=1e-5)
    assert (stored["examples"], stored["step"]) == (len(ids), predictor.step)
    assert (run / "calibration.png").stat().st_size > 1000
    image = digits.image[:4]
    sure = predictor(image, calibrated=True)
    np.testing.assert_allclose(sure, special.softmax(predictor.logits(image) / wanted, axis=-1), rtol=1e-3)
    np.savez(tmp_path / "x.npz", image)
    words = [f"{tmp_path}/x.npz", f"--run={run}", f"--out={tmp_path}/a.csv", "--uncertainty", "--top=2"]
    assert launch.main(["predict", *words]) == 0
    rows = rows_of(tmp_path / "a.csv")
    assert list(rows[0])[5:] == ["entropy", "calibrated_probability", "calibrated_probability_2", "calibrated_entropy"]
    for row, plain, calibrated in zip(rows, predictor(image), sure, strict=True):
        assert float(row["probability"]) == pytest.approx(plain.max(), rel=1e-5)
        assert float(row["entropy"]) == pytest.approx(stats.entropy(plain), rel=1e-4)
        assert float(row["calibrated_probability"]) == pytest.approx(calibrated.max(), rel=1e-5)
        assert float(row["calibrated_entropy"]) == pytest.approx(stats.entropy(calibrated), rel=1e-4)


def test_a_calibration_of_another_step_is_none(run, digits):
    file = run / "calibration.json"
    launch.main(["calibrate", f"--run={run}"])
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "step": 1}))
    predictor = jaxrec.load(run)
    assert predictor.temperature is None
    with pytest.raises(InputError, match=r"was not calibrated: python launch\.py calibrate"):
        predictor(digits.image[:1], calibrated=True)


def test_bad_input_is_one_line(run, digits, tmp_path, capsys):
    image, label = digits.image[:200], digits.label[:200]
    np.savez(tmp_path / "small.npz", x_train=image[:, :4], y_train=label, x_test=image[:, :4], y_test=label)
    np.savez(tmp_path / "none.npz", x_train=image, x_test=image)
    np.savez(tmp_path / "float.npz", x_train=image / 16.0, y_train=label, x_test=image / 16.0, y_test=label)
    rows = np.eye(10, dtype=np.uint8)[label] | np.eye(10, dtype=np.uint8)[(label + 1) % 10]
    np.savez(tmp_path / "rows.npz", x_train=image, y_train=rows, x_test=image, y_test=rows)
    names, fewer = [f"letter {index}" for index in range(5)], label % 5
    np.savez(tmp_path / "names.npz", x_train=image, y_train=fewer, x_test=image, y_test=fewer, classes=names)
    here = f"--run={run}"
    for words, said in [
        (["evaluate"], "evaluate.run is missing"),
        (["calibrate", f"--run={tmp_path}"], "no run with checkpoints is there"),
        (["evaluate", f"--run={tmp_path}"], "no run with checkpoints is there"),
        (
            ["evaluate", here, "--split=tset"],
            "evaluate.split = 'tset': allowed is 'train', 'validation', 'test', 'all'",
        ),
        (["evaluate", here, "--corrupt=gausian_noise"], "no such corruption. Did you mean 'gaussian_noise'?"),
        (["evaluate", here, "--corrupt=,"], "evaluate.corrupt = ('', ''): allowed is one name or more"),
        (["evaluate", here, f"--data={tmp_path}/nowhere/"], "no such folder or file"),
        (["evaluate", here, f"--data={tmp_path}/nowhere.npz"], "no such file"),
        (["evaluate", here, "--data={'name': 'npz'}"], "config.data.path is missing"),
        (["evaluate", here, f"--data={tmp_path}/small.npz"], "images of 4x8x1, and the run has learned from 8x8x1"),
        (["evaluate", here, f"--data={tmp_path}/none.npz"], "These data have no labels"),
        (["evaluate", here, f"--data={tmp_path}/float.npz"], "these images are not in [0, 1], unlike the run's"),
        (
            ["evaluate", here, f"--data={tmp_path}/rows.npz"],
            "several labels for each image, and the run has learned one",
        ),
        (["evaluate", here, f"--data={tmp_path}/names.npz"], "classes letter 0, letter 1, letter 2"),
        (["evaluate", here, f"--data={tmp_path}/names.npz", "--fresh"], "--fresh and evaluate do not go together"),
        (["evaluate", here, "more"], "evaluate takes --flags alone, and 'more' is none"),
    ]:
        capsys.readouterr()
        assert launch.main(words) == 2, words
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("launch.py: "), line
        assert said in line, line


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_read(run, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "why_not_written", lambda _: "Permission denied")
    monkeypatch.setattr(evaluation, "images_of", lambda *_, **__: pytest.fail("the data were read"))
    for command in ("evaluate", "calibrate"):
        assert launch.main([command, f"--run={run}"]) == 2
        assert "results go there, and it cannot be written" in capsys.readouterr().err


def test_a_run_without_a_validation_split_cannot_be_calibrated(run, tmp_path, capsys):
    flags = [f"--config={run}/config.json", "--config.data.validation=0.0", "--config.train.steps=2"]
    assert launch.main([*flags, f"--workdir={tmp_path}/r"]) == 0
    assert launch.main(["calibrate", f"--run={tmp_path}/r"]) == 2
    assert "--split=validation: these data have train, test, and all" in capsys.readouterr().err
