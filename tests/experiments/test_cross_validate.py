"""Cross-validation: every example is held out once, by runs like any other, of one program."""

import json
import pathlib
import re
import shutil
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

import jaxrec
import launch
from experiments.commands.cross_validate import cross_validate
from experiments.commands.run import run
from experiments.experiment import Train
from experiments.images import Fold, images_of, read_images
from experiments.settings.flags import from_flags
from experiments.stored import config_of, result_of
from jaxrec.data.streaming import Stream
from jaxrec.errors import InputError
from jaxrec.output.records import read

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    f"--config={ROOT}/configs/digits_cnn.py",
    "--config.model={'name': 'MLP', 'widths': (16,)}",
    "--config.optimizer={'name': 'sgd', 'learning_rate': 0.3}",
    "--config.train.batch_size=64",
    "--config.train.epochs=None",
    "--config.train.steps=60",
    "--config.train.log_every=20",
    "--config.train.evaluate_train=False",
)
FOLDS = 2


@pytest.fixture(scope="module")
def validated(tmp_path_factory) -> tuple[pathlib.Path, str]:
    """The folder, and what was printed."""
    folder = tmp_path_factory.mktemp("runs") / "folds"
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        assert launch.main(["cross_validate", *SMALL, f"--folds={FOLDS}", f"--workdir={folder}"]) == 0
    return folder, "\n".join(lines)


def out_of_fold(folder: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(folder / "out_of_fold.npz") as file:
        return dict(file)


def test_all_folds_compile_each_step_once(validated):
    """What standardises, how long a run is, which examples it holds out: inputs of one program."""
    misses = [int(number) for number in re.findall(r"Compile cache: \d+ hits, (\d+) misses", validated[1])]
    assert len(misses) == FOLDS
    assert len(set(misses)) == 1
    ends = [list(read(validated[0] / f"fold_{number}/metrics.jsonl"))[-1]["step"] for number in range(FOLDS)]
    assert ends == [60] * FOLDS


def test_the_layers_are_shown_once(validated):
    assert validated[1].count("Dense_0") == 1
    assert [validated[1].count(f"Fold {number} of") for number in range(FOLDS)] == [1] * FOLDS


def test_each_example_is_answered_by_the_run_that_held_it_out(validated, digits):
    folder, _ = validated
    found = out_of_fold(folder)
    pool = np.sort(np.concatenate([digits.splits["train"], digits.splits["validation"]]))
    np.testing.assert_array_equal(found["id"], pool)  # so the set's own test split is in none
    np.testing.assert_array_equal(found["label"], digits.label[pool])
    for number in range(FOLDS):
        own = found["fold"] == number
        held = images_of(config_of(folder / f"fold_{number}", "run")).dataset.splits["test"]
        np.testing.assert_array_equal(found["id"][own], held)
        answered = jaxrec.load(folder / f"fold_{number}", batch_size=512)(digits.image[held])
        np.testing.assert_allclose(found["probability"][own], answered, rtol=1e-4, atol=1e-6)


def test_numbers_are_means_over_the_folds_and_over_all_examples(validated):
    folder, _ = validated
    found, answers = json.loads((folder / "folds.json").read_text()), out_of_fold(folder)
    each = [result_of(folder / f"fold_{number}")["metrics"]["test"]["accuracy"] for number in range(FOLDS)]
    assert found["metrics"]["test"]["accuracy"] == {"mean": pytest.approx(np.mean(each)), "std": np.std(each, ddof=1)}
    answer = answers["logits"].argmax(1)
    right = answer == answers["label"]
    assert found["out_of_fold"]["accuracy"] == right.mean() > 0.3
    assert found["out_of_fold"]["examples"] == len(right)
    assert each == [pytest.approx(right[answers["fold"] == number].mean()) for number in range(FOLDS)]
    table = np.genfromtxt(folder / "confusion_out_of_fold.csv", delimiter=",", skip_header=1)[:, 1:]
    np.testing.assert_array_equal(table, confusion_matrix(answers["label"], answer))
    assert (folder / "confusion_out_of_fold.png").exists()


def test_the_same_command_goes_on_where_it_was_stopped_to_the_same_bits(validated, tmp_path, capsys):
    """The first fold is finished, the second was killed after a checkpoint; then both compare."""
    folder, again = validated[0], tmp_path / "again"
    shutil.copytree(folder / "fold_0", again / "fold_0")
    config, _, _ = from_flags(list(SMALL))
    run({**config, "fold": {"number": 1, "of": FOLDS}}, again / "fold_1", until=20, finish=False)
    assert launch.main(["cross_validate", *SMALL, f"--folds={FOLDS}", f"--workdir={again}"]) == 0
    assert f"Resuming {again}/fold_1 at step 20" in capsys.readouterr().out
    before, after = out_of_fold(folder), out_of_fold(again)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert launch.main(["compare", str(folder), str(again), f"--out={tmp_path}/compare"]) == 0
    found = json.loads((tmp_path / "compare.json").read_text())
    assert [each["images"] for each in found["accuracy"].values()] == [1437, 1437]
    assert found["pairs"][0]["alone"] == [0, 0]  # paired over all examples
    assert found["configs"] == {}
    shutil.rmtree(again / "fold_1")
    assert launch.main(["compare", str(folder), str(again)]) == 2
    assert "not all of its folds are there" in capsys.readouterr().err


def test_mistakes_are_those_of_all_folds(validated, tmp_path, capsys):
    answers = out_of_fold(validated[0])
    wrong = int((answers["logits"].argmax(1) != answers["label"]).sum())
    assert launch.main(["mistakes", f"--run={validated[0]}", f"--out={tmp_path}/m"]) == 0
    assert f"1,437 examples, {wrong:,} of them wrong" in capsys.readouterr().out
    assert launch.main(["mistakes", f"--run={validated[0]}", "--split=validation"]) == 2
    assert "what each run held out" in capsys.readouterr().err
    own = answers["fold"] == 0
    wrong = int((answers["logits"].argmax(1) != answers["label"])[own].sum())
    assert launch.main(["mistakes", f"--run={validated[0]}/fold_0"]) == 0  # a run like any other
    assert f"{own.sum()} examples, {wrong} of them wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--folds=1"], "Use 2 or more"),
        (["--folds=2000"], "2,000 folds of 1,437 examples"),
        (["--config.fold.of=3"], "cross_validate sets it for each run"),
        (["--config.overfit=10"], "config.overfit"),
    ],
)
def test_what_says_nothing_is_refused_in_a_line(flags, said, tmp_path, capsys):
    assert launch.main(["cross_validate", *SMALL, *flags, f"--workdir={tmp_path}/refused"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_report_tells_classes_of_all_folds_and_whose_mistakes_it_shows(validated, tmp_path):
    folder, answers = validated[0], out_of_fold(validated[0])
    assert launch.main(["report", str(folder), f"--out={tmp_path}/r.html", "--mistakes=1", "--methods=gradient"]) == 0
    text = (tmp_path / "r.html").read_text()
    assert f"The worst mistakes of {folder}/fold_0<" in text
    table = text.partition("Class by class, test, each held out by one run<")[2].partition("</table>")[0]
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", table)
    found = np.array([[float(value) for value in re.findall(r"<td>(.*?)</td>", row)] for _, row in rows])
    expected = precision_recall_fscore_support(answers["label"], answers["logits"].argmax(1), zero_division=0)
    np.testing.assert_allclose(found[:, :4], np.stack(expected, axis=1), atol=5e-5)


def test_to_start_from_a_run_that_knows_what_is_held_out_is_refused(validated, tmp_path, capsys, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    notes = json.loads((validated[0] / "fold_0/data.json").read_text())
    (other / "data.json").write_text(json.dumps({**notes, "contents": {**notes["contents"], "image": "0"}}))
    monkeypatch.setattr("experiments.commands.cross_validate.run", refuse := Mock(side_effect=InputError("goes on")))
    command = ["cross_validate", *SMALL, f"--workdir={tmp_path}/folds"]
    assert launch.main([*command, f"--config.train.init_from={validated[0]}/fold_0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "may have learned from the very examples that are held out" in line
    refuse.assert_not_called()
    assert launch.main([*command, f"--config.train.init_from={other}"]) == 2
    assert "goes on" in capsys.readouterr().err


def test_an_experiment_without_folds_is_refused(tmp_path):
    with pytest.raises(InputError, match="twin takes none"):
        cross_validate({"experiment": "mypkg.twin"}, tmp_path)


def test_a_stream_has_folds(tmp_path):
    for index in range(45):
        file = tmp_path / "digits" / "abc"[index % 3] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), index, np.uint8)).save(file)
    data = {"name": "folder", "path": str(tmp_path / "digits"), "channels": 1, "stream": True, "validation": 0.2}
    whole, *folds = (
        read_images(data, Train(batch_size=4, epochs=2), seed=0, fold=fold)
        for fold in (Fold(), *(Fold(number, 3) for number in range(3)))
    )
    assert isinstance(whole.dataset.image, Stream)
    pool = np.sort(np.concatenate([whole.dataset.splits["train"], whole.dataset.splits["validation"]]))
    held = np.concatenate([fold.dataset.splits["test"] for fold in folds])
    np.testing.assert_array_equal(np.sort(held), pool)
    assert len({fold.steps for fold in folds}) == 1


def test_the_folder_of_a_run_is_not_written_into(validated, capsys):
    assert launch.main(["cross_validate", *SMALL, f"--workdir={validated[0]}/fold_0"]) == 2
    assert "holds a run" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "less"),
    [
        ("digits_autoencoder", ()),
        ("digits_vae", ("--config.nll_samples=8", "--config.nll_images=8")),
        ("digits_gan", ()),
    ],
)
def test_every_experiment_has_folds(name, less, tmp_path):
    flags = [f"--config={ROOT}/configs/{name}.py", "--config.train.epochs=None", "--config.train.steps=2"]
    flags += ["--config.train.log_every=2", "--config.train.evaluate_train=False", "--folds=2", *less]
    assert launch.main(["cross_validate", *flags, f"--workdir={tmp_path}/folds"]) == 0
    found = json.loads((tmp_path / "folds" / "folds.json").read_text())
    assert found["folds"] == 2
    assert all(values["mean"] is not None for values in found["metrics"]["validation"].values())
    assert not (tmp_path / "folds" / "out_of_fold.npz").exists()
