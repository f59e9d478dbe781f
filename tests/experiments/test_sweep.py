"""Searches: spaces on the command line, trials that are killed and go on, validation that chooses alone."""

import csv
import json
import multiprocessing
import os
import pathlib
import random
import re
import signal
import time

import pytest

import launch
from experiments.settings.flags import from_flags
from experiments.settings.space import Choice, Range, assigned, points, space_of
from experiments.study import Study, end, give_up, goes_on, open_study, rungs, work
from jaxrec.errors import InputError
from jaxrec.output.records import read

ROOT = pathlib.Path(__file__).parents[2]
FILE = f"--config={ROOT}/configs/digits_cnn.py"
RATE = "optimizer.learning_rate.init_value"
SMALL = (
    FILE,
    "--config.model={'name': 'MLP', 'widths': (8,)}",
    "--config.train.batch_size=64",
    "--config.train.epochs=None",
    "--config.train.log_every=3",
    "--config.train.eval_every=3",
)


@pytest.fixture(scope="module")
def config() -> dict:
    return from_flags([FILE])[0]


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("log 1e-4 1e-1", Range(1e-4, 1e-1, log=True)),
        ("float 0.1 0.5", Range(0.1, 0.5)),
    ],
)
def test_a_range_is_three_words(config, text, choice):
    assert space_of([f"{RATE}={text}"], config).choices == {RATE: choice}


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("model.dropout=0.1,0.2,0.3", [0.1, 0.2, 0.3]),
        ("model.norm=none,batch", ["none", "batch"]),
        ("model.padding=SAME,VALID", ["SAME", "VALID"]),
        ("model.widths=(8,),(8,16)", [(8,), (8, 16)]),
        ("model.widths=[(8,),(8,16)]", [(8,), (8, 16)]),
        ("train.batch_size=16,32", [16, 32]),
    ],
)
def test_values_with_commas_between_are_choices(config, word, options):
    (choice,) = space_of([word], config).choices.values()
    assert list(choice.options.values()) == options


MODELS = (
    "model=[{'name': 'CNN', 'widths': (8,), 'hidden': (8,), 'dropout': 'float 0 0.5'},"
    " {'name': 'MLP', 'widths': 'choice (8,),(16,)'}]"
)


def test_what_is_chosen_within_a_section_is_there_where_that_is_taken(config):
    space = space_of([MODELS], config)
    asked: list[str] = []

    def pick(name: str, choice: Range | Choice) -> object:
        asked.append(name)
        return {"model": "MLP", "model=MLP.widths": "(16,)"}[name]

    assert assigned(config, space, pick)["model"] == {"name": "MLP", "widths": (16,)}
    assert asked == ["model", "model=MLP.widths"]


def test_a_grid_has_every_point_once(config):
    words = [MODELS.replace("float 0 0.5", "choice 0.1,0.2"), "train.batch_size=int 3 4"]
    found = list(points(space_of(words, config)))
    names = [("model=CNN.dropout", 0.1), ("model=CNN.dropout", 0.2), ("model=MLP.widths", "(8,)")]
    assert len(found) == 8
    assert [point[name] for name, _ in names for point in found if name in point][:4] == [0.1, 0.1, 0.2, 0.2]
    assert {tuple(sorted(point)) for point in found} == {
        ("model", "model=CNN.dropout", "train.batch_size"),
        ("model", "model=MLP.widths", "train.batch_size"),
    }


def test_a_file_says_the_same(config, tmp_path):
    told = {RATE: "log 1e-4 1e-1", "model": [{"name": "CNN", "widths": [8]}, {"name": "MLP", "widths": [8]}]}
    (tmp_path / "space.json").write_text(json.dumps(told))
    space = space_of([str(tmp_path / "space.json")], config)
    words = [f"{key}={value}" for key, value in told.items()]
    assert space.choices == space_of(words, config).choices
    assert space.choices["model"].options["MLP"] == {"name": "MLP", "widths": (8,)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.dropout=0.1,1.5"], "config.model.dropout = 1.5: allowed is a number from 0 to below 1"),
        (["model.dropout=float 0.1 1.5"], "config.model.dropout = 1.5: allowed is a number from 0 to below 1"),
        (["train.batch_size=float 1.5 8"], "config.train.batch_size = 1.5: allowed is a whole number"),
        (["model.dropuot=0.1,0.2"], "Did you mean 'dropout'?"),
        (["model=[{'name': 'CNN'}, {'name': 'MLP', 'width': 'int 1 3'}]"], "config.model.width = 1"),
        (["model.dropout=0.1"], "two of them at least"),
        (["model.dropout=0.1,0.1"], "0.1 is there twice"),
        (["model.dropout=log 0 1"], "the lower above 0"),
        (["model.dropout=float 0.5 0.1"], "needs a lower and a higher"),
        (["model.widths.x=1,2"], "config.model.widths is no section here"),
        (["model.dropout=0.1,0.2", "model=[{'name': 'CNN'}, {'name': 'MLP'}]"], "lies within --space.model"),
        (["model.dropout=0.1,0.2", "model.dropout=0.1,0.3"], "given twice"),
        (["seed=1,2"], "--seeds repeats"),
        (["data.validation=0.1,0.2"], "same validation images"),
        (["nowhere.json"], "neither KEY=VALUE nor a JSON file"),
    ],
)
def test_a_space_is_refused_in_a_line(config, words, said):
    with pytest.raises(InputError) as error:
        space_of(words, config)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_loss_that_changes_is_nothing_to_choose_by(config):
    by_loss = {**config, "monitor": "loss"}
    word = "loss.label_smoothing=0.0,0.1"
    assert space_of([word], config).choices
    with pytest.raises(InputError, match="trials are compared by the loss"):
        space_of([word], by_loss)


def test_a_space_is_refused_before_jax_starts(capsys, monkeypatch):
    monkeypatch.setattr("jaxrec.machine.startup.select_platform", lambda _: pytest.fail("JAX starts"))
    assert launch.main(["sweep", FILE, "--space.model.dropout=0.1,1.5"]) == 2
    assert "config.model.dropout = 1.5" in capsys.readouterr().err
    assert launch.main(["sweep", FILE]) == 2
    assert "space is missing" in capsys.readouterr().err


def test_trials_are_judged_at_moments_at_which_they_are_measured():
    assert rungs(900, 10) == {1: 100, 3: 300, 9: 900}
    assert rungs(95, 10) == {1: 20, 3: 40, 9: 95}
    assert rungs(5, 10) == {1: 5, 3: 5, 9: 5}


# Mechanics of studies, with arithmetic in the place of training.

SPACE = {"x": Range(0.0, 1.0), "y": Choice({"a": 1, "b": 2})}


def choose(pick):
    return {name: pick(name, choice) for name, choice in SPACE.items()}


def opened(folder: pathlib.Path, **options) -> Study:
    return open_study(folder, **{"mode": "max", "method": "tpe", "pruner": "none", "seed": 0, **options})


def picks(study: Study) -> list[dict]:
    return [trial.params for trial in study.optuna.trials]


def states(study: Study) -> list[str]:
    return [trial.state.name for trial in study.optuna.trials]


def test_a_search_that_breaks_off_goes_on_to_the_same_trials(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()

    def value(trial, pick):
        return choose(pick)["x"] * (2 if choose(pick)["y"] == "a" else 1)

    whole = opened(tmp_path / "whole")
    work(whole, 14, choose, None, lambda trial, pick: end(whole, trial, value(trial, pick)))

    carried: list[int] = []

    def carry_out(trial, pick):
        carried.append(trial.number)
        if carried.count(trial.number) == 1 and trial.number % 4 == 3:
            raise KeyboardInterrupt
        end(study, trial, value(trial, pick))

    for _ in range(4):
        study = opened(tmp_path / "broken")
        try:
            work(study, 14, choose, None, carry_out)
        except KeyboardInterrupt:
            with (tmp_path / "broken" / "study.journal").open("a") as journal:
                journal.write('{"op_code": 6, "worker')  # as a kill in the middle of a line leaves it
    assert sorted(set(carried)) == list(range(14))
    assert len(carried) == 14 + 3
    assert states(study) == ["COMPLETE"] * 14
    assert picks(study) == picks(whole)
    assert study.ranked()[0].value == max(trial.value for trial in study.optuna.trials)


def test_the_lower_is_better_where_it_is(tmp_path):
    study = opened(tmp_path, mode="min", method="random")
    work(study, 5, choose, None, lambda trial, pick: end(study, trial, choose(pick)["x"]))
    assert study.ranked()[0].value == min(trial.value for trial in study.optuna.trials)


def test_a_grid_is_gone_through_once(tmp_path):
    every = [{"x": x, "y": y} for x in (0.25, 0.5) for y in "ab"]
    carried = []

    def carry_out(trial, pick):
        carried.append(trial.number)
        if len(carried) == 3:
            raise KeyboardInterrupt
        end(study, trial, choose(pick)["x"])

    study = opened(tmp_path, method="grid")
    with pytest.raises(KeyboardInterrupt):
        work(study, len(every), choose, every, carry_out)
    study = opened(tmp_path, method="grid")
    work(study, len(every), choose, every, carry_out)
    assert carried == [0, 1, 2, 2, 3]
    assert picks(study) == every
    assert states(study) == ["COMPLETE"] * 4


def test_what_was_tried_is_not_tried_again(tmp_path):
    study, carried = opened(tmp_path, method="random"), []

    def carry_out(trial, pick):
        carried.append(trial.params["y"])
        end(study, trial, 1.0 if trial.params["y"] == "a" else 0.5)

    work(study, 10, lambda pick: pick("y", SPACE["y"]), None, carry_out)
    assert sorted(carried) == ["a", "b"]
    values = [(trial.params["y"], trial.value) for trial in study.optuna.trials]
    assert set(values) == {("a", 1.0), ("b", 0.5)}
    assert len(values) == 10
    assert len(study.ranked()) == 2


def test_a_damaged_journal_is_named_and_left(tmp_path):
    study = opened(tmp_path, method="random")
    study.optuna.ask()
    file = tmp_path / "study.journal"
    whole = file.read_bytes()
    for damage in (b"gar{bage\n", b"gar{bage\n{}\n"):
        file.write_bytes(whole + damage)
        with pytest.raises(InputError, match=rf"study.journal, line {len(whole.splitlines()) + 1}: is no record"):
            opened(tmp_path, method="random")
        assert file.read_bytes() == whole + damage
    file.write_bytes(whole + b'{"op')  # what a kill leaves
    opened(tmp_path, method="random")


def test_what_was_refused_is_not_tried_again(tmp_path):
    study, carried = opened(tmp_path, method="random"), []

    def carry_out(trial, pick):
        carried.append(trial.params["y"])
        give_up(study, trial, f"no {trial.params['y']}", diverged=False)

    work(study, 10, lambda pick: pick("y", SPACE["y"]), None, carry_out)
    assert sorted(carried) == ["a", "b"]
    assert {trial.user_attrs["why"] for trial in study.optuna.trials} == {"no a", "no b"}
    assert states(study) == ["FAIL"] * 10


def test_what_is_worse_than_others_ends_early(tmp_path):
    study, steps = opened(tmp_path, method="random", pruner="asha"), {}

    def carry_out(trial, pick):
        for resource in (1, 3, 9):
            steps[trial.number] = resource
            if not goes_on(study, trial, resource, -float(trial.number)):  # each is worse than those before
                return
        end(study, trial, -float(trial.number))

    work(study, 6, choose, None, carry_out)
    assert steps[0] == 9
    assert set(states(study)[3:]) == {"PRUNED"}
    assert set(list(steps.values())[3:]) == {1}


def test_what_diverged_is_worse_than_any_and_what_was_refused_says_nothing(tmp_path):
    study = opened(tmp_path, method="random")

    def carry_out(trial, pick):
        if trial.number == 2:
            return end(study, trial, 1.0)
        return give_up(study, trial, "why", diverged=trial.number == 0)

    work(study, 3, choose, None, carry_out)
    assert states(study) == ["PRUNED", "FAIL", "COMPLETE"]
    assert [trial.number for trial in study.ranked()] == [2]


def test_a_trial_that_another_process_has_just_ended_is_not_taken_up(tmp_path, monkeypatch):
    study = opened(tmp_path, method="random")
    trial = study.optuna.ask()
    seen = [study.optuna.get_trials(deepcopy=True), []]  # before it ends, and after
    end(study, trial, 1.0)
    monkeypatch.setattr("experiments.study._running", lambda _: seen.pop(0) if seen else [])
    work(study, 1, choose, None, lambda *_: pytest.fail("it is over"))
    assert states(study) == ["COMPLETE"]


def test_another_method_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install torch"):
        opened(tmp_path, method="gp")


def labour(folder: pathlib.Path) -> None:
    """What a process does: each trial is a few writes, under its number and the process's."""
    study = opened(folder, method="random")

    def carry_out(trial, pick):
        with (study.trial_folder(trial.number) / "who").open("a") as who:
            for _ in range(3):
                who.write(f"{os.getpid()}\n")
                who.flush()
                time.sleep(0.02)
        end(study, trial, choose(pick)["x"])

    work(study, 30, choose, None, carry_out)


@pytest.mark.slow
def test_killed_processes_lose_no_trial_and_double_none(tmp_path):
    context, draw = multiprocessing.get_context("forkserver"), random.Random(0)
    kills = 0
    for _ in range(8):
        processes = [context.Process(target=labour, args=(tmp_path,)) for _ in range(2)]
        for process in processes:
            process.start()
        processes[0].join(timeout=draw.uniform(2, 3.5))
        for process in processes[: 1 + draw.randrange(2)]:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
        for process in processes:
            process.join(timeout=0.3)
            process.kill()
            process.join()
    process = context.Process(target=labour, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    study = opened(tmp_path)
    assert states(study) == ["COMPLETE"] * 30
    assert [trial.number for trial in study.optuna.trials] == list(range(30))
    for trial in study.optuna.trials:
        who = (study.trial_folder(trial.number) / "who").read_text().split()
        runs = re.findall(r"((?:(\d+) )(?:\2 )*)", " ".join(who) + " ")
        assert len({pid for _, pid in runs}) == len(runs), "two processes at once worked on a trial"
        assert len(runs[-1][0].split()) == 3
    assert kills


# The command.


def sweep(folder: pathlib.Path, *flags: str) -> int:
    return launch.main(["sweep", *SMALL, *flags, f"--workdir={folder}"])


def test_validation_chooses_and_the_test_split_is_read_for_the_winner_alone(tmp_path, capsys):
    space, folder = [f"--space.{RATE}=1e-5,3e-2", "--method=grid", "--config.train.steps=6"], tmp_path / "s"
    assert sweep(folder, *space) == 0
    said = capsys.readouterr().out
    best = [max(r.get("validation/accuracy", 0) for r in read(folder / f"trials/000{n}/metrics.jsonl")) for n in (0, 1)]
    winner = best.index(max(best))
    assert best[0] != best[1]
    assert (folder / f"trials/000{winner}/result.json").exists()
    assert not (folder / f"trials/000{1 - winner}/result.json").exists()
    assert f"Trial {winner} on test: loss" in said
    assert json.loads((folder / "best.json").read_text())["optimizer"]["learning_rate"]["init_value"] == 3e-2
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation/accuracy"]) for row in rows] == best
    assert [float(row[RATE]) for row in rows] == [1e-5, 3e-2]
    assert {"history.png", "parallel.png", "importance.png"} <= {path.name for path in folder.iterdir()}
    before = (folder / f"trials/000{winner}/metrics.jsonl").stat()
    assert sweep(folder, *space) == 0  # nothing is left to do
    assert (folder / f"trials/000{winner}/metrics.jsonl").stat() == before
    assert sweep(folder, f"--space.{RATE}=1e-5,3e-3", "--method=grid", "--config.train.steps=6") == 2
    assert "holds a search of another space" in capsys.readouterr().err


def misses(capsys) -> int:
    return int(re.findall(r"Compile cache: \d+ hits, (\d+) misses", capsys.readouterr().out)[-1])


@pytest.mark.slow
def test_trials_that_differ_in_inputs_alone_share_each_program(tmp_path, capsys):
    flags = ["--method=grid", "--config.train.steps=6"]
    assert sweep(tmp_path / "one", f"--space.{RATE}=1e-5,1e-4", *flags) == 0
    first = misses(capsys)
    assert sweep(tmp_path / "other", f"--space.{RATE}=2e-5,3e-4,4e-4,5e-4", *flags) == 0
    assert misses(capsys) == first
    # The count sees what is compiled anew: another width is another program.
    assert sweep(tmp_path / "wider", "--space.model.widths=(9,),(10,)", *flags) == 0
    assert misses(capsys) > first


@pytest.mark.slow
def test_the_best_are_judged_in_full_the_worse_end_early_and_seeds_repeat_the_winner(tmp_path, capsys):
    flags = [f"--space.{RATE}=log 1e-6 1e-1", "--trials=6", "--pruner=asha", "--config.train.steps=27", "--seeds=2"]
    assert sweep(tmp_path, *flags, "--top=2", "--method=random") == 0
    said = capsys.readouterr().out
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps = [[record["step"] for record in read(tmp_path / f"trials/000{n}/metrics.jsonl")] for n in range(6)]
    for row, taken in zip(rows, steps, strict=True):
        ended = row["state"] == "ended early"
        assert taken == list(range(3, taken[-1] + 1, 3))  # as in a run that was never stopped
        assert (taken[-1] < 27) == ended
    assert {row["state"] for row in rows} == {"ended early", "came to their end"}
    assert len(list(tmp_path.glob("trials/*/result.json"))) == 2
    found = json.loads((tmp_path / "seeds.json").read_text())
    assert all(len(of["values"]) == 2 for of in found["trials"].values())
    assert "Over seeds, trial" in said
