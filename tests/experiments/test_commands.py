"""What the launcher does besides one run: several seeds, looking at data and rates, starting from another run."""

import hashlib
import json
import pathlib
import time

import numpy as np
import pytest

import launch
from experiments.commands.bench_data import _seconds_each
from experiments.commands.lr_find import suggest
from experiments.commands.repeat import _spread
from jaxrec.data.streaming import AHEAD
from jaxrec.output.records import read

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    f"--config={ROOT}/configs/digits_cnn.py",
    "--config.model.widths=(4,)",
    "--config.model.hidden=(8,)",
    "--config.train.batch_size=16",
    "--config.train.epochs=None",
)
STEP = "--config.train.steps=1"


def result_of(folder: pathlib.Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def content_of(folder: pathlib.Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("runs") / "trained"
    assert launch.main([*SMALL, "--config.train.steps=400", f"--workdir={folder}"]) == 0
    return folder


def test_seeds_are_runs_of_their_own_with_mean_and_deviation(tmp_path, capsys):
    command = [*SMALL, "--config.train.steps=5", "--config.seed=3", "--seeds=2", f"--workdir={tmp_path}/s"]
    assert launch.main(command) == 0
    summary = json.loads((tmp_path / "s" / "seeds.json").read_text())
    values = [result_of(tmp_path / "s" / f"seed_{seed}")["metrics"]["test"]["loss"] for seed in (3, 4)]
    assert values[0] != values[1]
    np.testing.assert_allclose(summary["metrics"]["test"]["loss"]["mean"], sum(values) / 2)
    np.testing.assert_allclose(summary["metrics"]["test"]["loss"]["std"], abs(values[0] - values[1]) / np.sqrt(2))
    shown = capsys.readouterr().out
    assert "2 seeds" in shown
    assert shown.count("Conv_0") == 1  # the layers are the same
    before = content_of(tmp_path / "s" / "seed_3" / "checkpoints")
    assert launch.main(command) == 0  # finished runs are not run again
    assert content_of(tmp_path / "s" / "seed_3" / "checkpoints") == before


def test_lr_find_draws_a_curve_and_leaves_the_run_alone(trained, tmp_path, capsys):
    before = content_of(trained)
    assert launch.main(["lr_find", f"--config={trained}/config.json", f"--workdir={tmp_path}"]) == 0
    assert content_of(trained) == before
    assert [path.name for path in tmp_path.iterdir()] == ["lr_find.png"]
    assert "falls fastest at a learning rate of" in capsys.readouterr().out


def test_the_rate_that_is_suggested_is_where_the_loss_falls_fastest():
    rates = np.geomspace(1e-6, 10, 200)
    losses = 2 - 1.5 / (1 + np.exp(-3 * np.log(rates / 1e-3)))  # a sigmoid over log(rate), steepest at 1e-3
    losses = losses + np.where(rates > 0.1, 5 * np.log(rates / 0.1), 0)  # and then it breaks
    assert 0.8e-3 < suggest(rates, losses) < 1.25e-3


def test_show_data_draws_a_sheet_and_nothing_else(tmp_path):
    augment = "[{'name': 'random_crop', 'padding': 1}, {'name': 'random_flip'}]"
    assert launch.main(["show_data", *SMALL, STEP, f"--config.augment={augment}", f"--workdir={tmp_path}"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["show_data.png"]


def test_an_unknown_command_is_refused(capsys):
    assert launch.main(["lr_fnid", *SMALL, STEP]) == 2
    said = "Unknown command 'lr_fnid'. Did you mean 'lr_find'? There are: doctor, prepare, show_data, bench_data"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predct", "--run=runs/a", "photos"], "Unknown command 'predct'. Did you mean 'predict'?"),
        (["configs/digits_cnn.py"], "Did you mean --config=configs/digits_cnn.py?"),
        (["calibrate", "runs/a"], "calibrate takes --flags alone, and 'runs/a' is none"),
        (
            ["--confg=configs/digits_cnn.py"],
            "--confg: no such flag, and --config=FILE is missing. Did you mean '--config'?",
        ),
    ],
)
def test_a_mistyped_word_is_named_not_a_missing_config(words, said, capsys):
    assert launch.main(words) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


def test_the_stages_that_feed_a_network_are_timed(tmp_path, capsys):
    assert launch.main(["bench_data", *SMALL, STEP, "--seconds=0.01"]) == 0
    shown = capsys.readouterr().out
    assert "plan" in shown
    assert "all, on the devices" in shown


def test_batches_that_were_ready_before_are_no_measure():
    taken = _seconds_each(lambda step: time.sleep(0.02 * (step > AHEAD)), 0.05)
    assert taken > 0.019


def test_a_run_starts_from_another_and_says_what_it_took(trained, tmp_path, capsys):
    start = [*SMALL, STEP, f"--config.train.init_from={trained}", f"--workdir={tmp_path}/new"]
    assert launch.main([*start, "--config.optimizer.learning_rate=0.0"]) == 0
    assert f"Starting from {trained}, step 400: " in capsys.readouterr().out
    metrics = [result_of(folder)["metrics"]["validation"]["loss"] for folder in (trained, tmp_path / "new")]
    # Parameters are the same; one step has moved the batch statistics a little.
    assert abs(metrics[0] - metrics[1]) < 0.2
    fresh = [*SMALL, STEP, "--config.optimizer.learning_rate=0.0", f"--workdir={tmp_path}/fresh"]
    assert launch.main(fresh) == 0
    assert result_of(tmp_path / "fresh")["metrics"]["validation"]["loss"] > metrics[0] + 0.3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.train.init_from=nowhere"], "no run with checkpoints is there"),
        (["--config.train.init_from={run}", "--config.model.hidden=(9,)"], "or have another shape there"),
        (["--config.train.patience=1", "--config.data.validation=0.0"], "train.patience needs a validation split"),
        (["--config.class_weights=(1.0, 2.0)"], "has 2 numbers for 10 classes"),
        (["--config.updates.accumulate=3"], "accumulate = 3 does not divide a batch of 16"),
        (["--config.train.reinit=Dense"], "train.init_from starts from: set both"),
        (["--seeds=2", "--smoke"], "--seeds and --smoke do not go together"),
    ],
)
def test_bad_input_is_one_line(trained, tmp_path, capsys, flags, message):
    flags = [flag.format(run=trained) for flag in flags]
    assert launch.main([*SMALL, STEP, *flags, f"--workdir={tmp_path}/r"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_another_run_is_only_read(trained, tmp_path):
    unfinished = trained / "checkpoints" / "401.orbax-checkpoint-tmp"  # as a save that is under way looks
    unfinished.mkdir()
    before = content_of(trained)
    start = [*SMALL, STEP, f"--config.train.init_from={trained}", f"--workdir={tmp_path}/new"]
    assert launch.main(start) == 0
    assert unfinished.is_dir()
    assert content_of(trained) == before
    unfinished.rmdir()


def test_seeds_without_a_number_have_none():
    assert _spread([1.0]) == {"mean": 1.0, "std": None}
    assert _spread([1.0, None]) == {"mean": None, "std": None}


def test_patience_ends_a_run_and_a_finished_run_stays_finished(tmp_path, capsys):
    command = [
        *SMALL,
        "--config.train.steps=500",
        "--config.train.log_every=5",
        "--config.train.eval_every=5",
        "--config.train.patience=2",
        "--config.train.save_every=500",
        "--config.optimizer.learning_rate=0.0",
        "--config.monitor=loss",
        f"--workdir={tmp_path}/r",
    ]
    assert launch.main(command) == 0
    steps = [record["step"] for record in read(tmp_path / "r" / "metrics.jsonl")]
    # Nothing is learned; batch statistics alone move the loss, for a few evaluations at most.
    assert 10 < steps[-1] < 500
    assert (tmp_path / "r" / "checkpoints" / str(steps[-1])).exists()
    assert launch.main(command) == 0
    assert "This run is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_network_learns_a_few_images_by_heart(tmp_path):
    noise = "--config.augment=[{'name': 'gaussian_noise', 'std': 9.0}]"  # left out, or nothing could be learned
    command = [SMALL[0], noise, "--config.train.batch_size=128", "--config.overfit=40", f"--workdir={tmp_path}/r"]
    assert launch.main([*command, "--config.model.widths=(8,)", "--config.model.hidden=(32,)"]) == 0
    metrics = result_of(tmp_path / "r")["metrics"]
    assert set(metrics) == {"train", "validation"}  # the same images; the test split is not read
    assert metrics["train"] == metrics["validation"]
    assert metrics["train"]["accuracy"] > 0.99
