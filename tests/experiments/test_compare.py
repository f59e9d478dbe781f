"""Runs beside each other: what tests say of planted answers, what is refused, the whole command."""

import json
import math
import pathlib
import shutil

import numpy as np
import pytest

import launch
from experiments.commands.compare import _table
from experiments.comparison import differing_in_words, said
from experiments.settings.flags import from_flags
from experiments.sides import Answers, Side, differing, pooled, side_of
from experiments.significance import Interval, Verdict, holm, interval, metrics_of, verdict, verdicts
from jaxrec.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    f"--config={ROOT}/configs/digits_cnn.py",
    "--config.train.batch_size=64",
    "--config.train.epochs=None",
    "--config.train.steps=5",
    "--config.train.evaluate_train=False",
)


def answers(both: int, first: int, second: int, none: int) -> tuple[np.ndarray, np.ndarray]:
    """Of two networks, on so many images: where both are right, one alone, none."""
    one = np.repeat([True, True, False, False], [both, first, second, none])
    other = np.repeat([True, False, True, False], [both, first, second, none])
    return one[None], other[None]


@pytest.mark.parametrize("alone", [(0, 0), (1, 5), (9, 2), (4, 4), (0, 8)])
def test_mcnemar_is_a_coin_thrown_where_one_alone_is_right(alone):
    found = verdict(*answers(50, *alone, 7))
    thrown, fewer = sum(alone), min(alone)
    tail = sum(math.comb(thrown, k) for k in range(fewer + 1)) / 2**thrown
    assert found.alone == alone
    assert found.exact == pytest.approx(min(1, 2 * tail))
    assert found.seeds is None


def test_the_interval_is_that_of_theory_and_the_same_each_time():
    right = answers(0, 300, 0, 100)[0][0]
    found = interval(right.astype(float))
    assert found == interval(right.astype(float))
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    np.testing.assert_allclose(found, (0.75, 0.75 - half, 0.75 + half), atol=0.006)


def test_an_interval_of_differences_that_are_equal_is_a_point():
    assert verdict(*answers(10, 0, 0, 3)).difference == (0, 0, 0)


def test_seeds_are_judged_by_welch():
    draw = np.random.default_rng(0)
    low, high = ((draw.uniform(size=(5, 400)) < share) for share in (0.7, 0.9))
    apart, same = verdict(high, low), verdict(high, high[:, ::-1])
    assert apart.exact is None
    assert apart.difference.low > 0.1
    assert apart.seeds < 1e-3
    assert same.seeds == pytest.approx(1)


def test_holm_corrects_each_p_and_keeps_their_order():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
    one, other = answers(50, 9, 1, 7)
    alone = verdict(one, other).exact
    assert verdicts({"a": one, "b": other, "c": other})["a", "b"].exact == pytest.approx(min(1, 3 * alone))


def test_a_verdict_says_who_is_better_or_that_nobody_knows():
    apart = said("a", "b", Verdict(Interval(-0.02, -0.03, -0.01), (1, 9), 0.02, None))
    assert "-2.00 % [-3.00, -1.00]" in apart
    assert "tell them apart: b is better" in apart
    assert "cannot tell them apart" in said("a", "b", Verdict(Interval(0.01, -0.01, 0.03), (9, 5), 0.4, None))
    seeds = said("a", "b", Verdict(Interval(0.02, 0.01, 0.03), None, None, 0.3))
    assert "a is better" in seeds
    assert "may be equally good" in seeds


def test_a_floor_stands_below_what_it_is_the_floor_of():
    result = {"headline": ["frechet"], "metrics": {"test": {}}}
    side = Side("a", [pathlib.Path("a")], {}, {}, [result])
    values = {"loss": 1.0, "real_frechet": 0.5, "frechet": 2.0}
    metrics = {"a": {name: {"n": 1, "mean": value, "std": None, "interval": None} for name, value in values.items()}}
    table = _table(metrics, [side], "test")
    assert list(table.columns[0].cells) == ["frechet", "  floor: real_frechet", "loss"]
    assert list(table.columns[1].cells) == ["2.0000", "0.5000", "1.0000"]


def changed(folder: pathlib.Path, file: str, **values: object) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def copied(run: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    return shutil.copytree(run, to, ignore=shutil.ignore_patterns("tensorboard"))


def made(folder: pathlib.Path, *flags: str, loss: float = 0.5) -> pathlib.Path:
    """A finished run's folder without checkpoints."""
    folder.mkdir(parents=True)
    config, _, _ = from_flags([*SMALL, *(f"--config.{flag}" for flag in flags)])
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "data.json").write_text(json.dumps({"classes": ["a", "b"]}))
    result = {"step": 5, "metrics": {"test": {"loss": loss}}, "headline": ["loss"], "notes": {}}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def folds(folder: pathlib.Path, of: int = 3, *flags: str) -> pathlib.Path:
    for number in range(of):
        made(folder / f"fold_{number}", f"fold.of={of}", f"fold.number={number}", *flags, loss=float(number))
    return folder


@pytest.fixture(scope="module")
def validated(tmp_path_factory) -> pathlib.Path:
    return folds(tmp_path_factory.mktemp("validated") / "three")


def test_runs_that_were_moved_aside_or_repeated_are_none_of_a_folder(validated, tmp_path):
    folder = shutil.copytree(validated, tmp_path / "folds")
    for name in ("fold_0-20261127-121516", "fold_0_again"):
        shutil.copytree(folder / "fold_0", folder / name)
    side = side_of(str(folder))
    assert [each.name for each in side.folders] == ["fold_0", "fold_1", "fold_2"]
    assert side.folds


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda folder: shutil.rmtree(folder / "fold_1"), "it lacks fold_1."),
        (lambda folder: [shutil.rmtree(folder / f"fold_{number}") for number in (0, 2)], "it lacks fold_0, fold_2."),
        (lambda folder: shutil.copytree(folder / "fold_0", folder / "fold_3"), "fold_0 and fold_3 in there are both"),
        (lambda folder: changed(folder / "fold_1", "config.json", seed=1), "differ in more than their fold"),
    ],
)
def test_each_fold_has_to_be_there_once_and_of_one_config(validated, tmp_path, capsys, how, said):
    how(shutil.copytree(validated, tmp_path / "folds"))
    assert launch.main(["compare", str(validated), f"{tmp_path}/folds"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert launch.main(["mistakes", f"--run={tmp_path}/folds", f"--out={tmp_path}/m"]) == 2
    assert said in capsys.readouterr().err


def test_seeds_of_one_fold_are_seeds(tmp_path):
    for seed in range(3):
        made(tmp_path / f"seeds/seed_{seed}", f"seed={seed}", "fold.of=5", "fold.number=2")
    side = side_of(f"{tmp_path}/seeds")
    assert side.seeds
    assert not side.folds
    changed(tmp_path / "seeds/seed_1", "config.json", seed=0)
    with pytest.raises(InputError, match="seed_0 and seed_1 in there are both seed 0"):
        side_of(f"{tmp_path}/seeds")


def test_the_mean_has_an_interval_over_seeds_and_none_over_folds(validated, tmp_path):
    for seed in range(3):
        made(tmp_path / f"seeds/seed_{seed}", f"seed={seed}", loss=float(seed))
    seeds, of_folds = (metrics_of(side_of(str(name)), "test")["loss"] for name in (tmp_path / "seeds", validated))
    assert seeds["mean"] == of_folds["mean"] == 1
    assert seeds["std"] == of_folds["std"] == 1
    assert seeds["interval"][0] < 1 < seeds["interval"][1]
    assert of_folds["interval"] is None


def test_configs_differ_in_how_many_folds_they_have(validated, tmp_path):
    two = folds(tmp_path / "two", 2, "seed=7")
    assert differing([side_of(str(name)) for name in (validated, two)]) == {
        "config.fold.of": [3, 2],
        "config.seed": [0, 7],  # by which folds are drawn
    }
    assert differing([side_of(f"{validated}/fold_{number}") for number in (0, 1)]) == {"config.fold.number": [0, 1]}


def test_what_configs_differ_in_is_each_side_s_own_value():
    """Also where one of three has another section, and where a key has a dot."""
    mixes = {"p": 1, "of": {"a.b": 2}}, None, {"p": 3, "of": {"a.b": None}}
    configs = [*({"mix": mix} for mix in mixes), {}]
    sides = [Side(str(place), [pathlib.Path(str(place))], each, {}, []) for place, each in enumerate(configs)]
    assert differing(sides) == {
        "config.mix": [*mixes, None],
        "config.mix.p": [1, None, 3, None],
        "config.mix.of.a.b": [2, None, None, None],
    }
    assert differing_in_words(sides) == {
        "config.mix": [*map(repr, mixes), "(not there)"],
        "config.mix.p": ["1", "(not there)", "3", "(not there)"],
        "config.mix.of.a.b": ["2", "(not there)", "None", "(not there)"],
    }


def test_examples_that_are_answered_twice_are_not_pooled():
    def answered(*ids: int) -> Answers:
        return Answers(pathlib.Path("a"), None, np.eye(3)[list(ids)], np.array(ids), np.array(ids))

    np.testing.assert_array_equal(pooled([answered(2, 0), answered(1)]).ids, [0, 1, 2])
    with pytest.raises(InputError, match="the same examples, such as 2"):
        pooled([answered(2, 0), answered(1, 2)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    """A config under two seeds, and one of them once more as a run that calls itself slow."""
    folder = tmp_path_factory.mktemp("compared")
    model = "--config.model={'name': 'MLP', 'widths': (8,)}"
    assert launch.main([*SMALL, model, "--seeds=2", f"--workdir={folder}/seeds"]) == 0
    config = json.loads((copied(folder / "seeds/seed_1", folder / "slow") / "config.json").read_text())
    config["optimizer"]["learning_rate"]["init_value"] = 1e-4
    changed(folder / "slow", "config.json", **config)
    return folder


def test_runs_stand_side_by_side(trained, tmp_path, capsys):
    capsys.readouterr()
    names = [f"{trained}/seeds", f"{trained}/slow", f"{trained}/seeds/seed_0"]
    assert launch.main(["compare", *names, f"--out={tmp_path}/c"]) == 0
    found = json.loads((tmp_path / "c.json").read_text())
    results = [
        json.loads((trained / run / "result.json").read_text())["metrics"]["test"]
        for run in ("seeds/seed_0", "seeds/seed_1", "slow")
    ]
    of = found["metrics"][names[0]]["loss"]
    assert of["n"] == 2
    np.testing.assert_allclose(of["mean"], np.mean([result["loss"] for result in results[:2]]))
    np.testing.assert_allclose(of["std"], np.std([result["loss"] for result in results[:2]], ddof=1))
    np.testing.assert_allclose(
        [found["accuracy"][name]["mean"] for name in names],
        [np.mean([result["accuracy"] for result in results[:2]]), results[2]["accuracy"], results[0]["accuracy"]],
        rtol=1e-6,
    )
    assert found["configs"] == {"config.optimizer.learning_rate.init_value": [3e-3, 1e-4, 3e-3]}
    assert [pair["runs"] for pair in found["pairs"]] == [names[:2], [names[0], names[2]], names[1:]]
    alone = found["pairs"][2]["alone"]
    assert (alone[0] - alone[1]) / 360 == pytest.approx(results[2]["accuracy"] - results[0]["accuracy"], abs=1e-6)
    assert (tmp_path / "c.png").stat().st_size > 5000
    assert "p is corrected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda run: changed(run, "data.json", contents={"examples": 3}), "have other data"),
        (lambda run: (run / "result.json").unlink(), "is not finished"),
        (lambda run: changed(run, "result.json", metrics={"validation": {}}), "measured on validation, not on test"),
        (lambda run: shutil.rmtree(run), "no run is there"),
    ],
)
def test_what_was_not_measured_on_the_same_is_refused(trained, tmp_path, capsys, how, said):
    other = tmp_path / "other"
    how(copied(trained / "slow", other))
    assert launch.main(["compare", f"{trained}/slow", str(other), f"--out={tmp_path}/c"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("out", "said"),
    [("run/config", "is no comparison"), ("no/such", "cannot be written"), ("/proc/c", "cannot be written")],
)
def test_no_file_of_a_run_is_written_over(trained, tmp_path, capsys, out, said):
    run = copied(trained / "slow", tmp_path / "run")
    before = (run / "config.json").read_bytes()
    assert launch.main(["compare", str(run), f"--out={tmp_path / out}"]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "accuracy" not in shown.out  # found out before anything is said
    assert (run / "config.json").read_bytes() == before


def test_other_images_of_the_same_data_are_refused(trained, tmp_path, capsys):
    other = copied(trained / "slow", tmp_path / "other")
    data = json.loads((other / "config.json").read_text())["data"]
    changed(other, "config.json", data={**data, "split_seed": 1})
    notes = json.loads((other / "data.json").read_text())
    del notes["splits"]  # of an older version's run
    (other / "data.json").write_text(json.dumps(notes))
    command = ["compare", f"{trained}/slow", str(other), f"--out={tmp_path}/c"]
    assert launch.main([*command, "--split=validation"]) == 2
    assert "measured on other images of the same data" in capsys.readouterr().err
    assert launch.main(command) == 0  # the test split of these data is always the same
