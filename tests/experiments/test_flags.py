"""Configs from files and the command line, and what was read of them."""

import json
import pathlib

import pytest
from ml_collections import ConfigDict

import experiments.settings.flags
from experiments.settings.flags import Reads, completed, from_flags
from experiments.settings.renamed import RENAMED
from experiments.settings.schema import arguments_of
from jaxrec.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.5", 0.5), ("1", 1), ("None", None), ("7", 7)],
)
def test_values_on_the_command_line_keep_their_type(text, value):
    config, _, _ = from_flags([f"--config={ROOT}/configs/digits_cnn.py", f"--config.updates.clip_norm={text}"])
    assert config["updates"]["clip_norm"] == value
    assert type(config["updates"]["clip_norm"]) is type(value)


@pytest.mark.parametrize(
    ("flag", "path", "value"),
    [
        ("--config.model.widths=(8,(4,4))", ("model", "widths"), (8, (4, 4))),
        ("--config.model.widths=[8]", ("model", "widths"), (8,)),
        ("--config.model.pool_last=false", ("model", "pool_last"), False),
        ("--config.model.pool=average", ("model", "pool"), "average"),
        ("--config.optimizer.learning_rate=3e-4", ("optimizer", "learning_rate"), 3e-4),
        ("--config.optimizer.learning_rate.init_value=0.5", ("optimizer", "learning_rate", "init_value"), 0.5),
        ("--config.train.eval_every=10", ("train", "eval_every"), 10),
    ],
)
def test_any_argument_can_be_set_from_the_command_line(flag, path, value):
    config, name, left = from_flags([f"--config={ROOT}/configs/digits_cnn.py", flag, "--workdir=x"])
    for key in path:
        config = config[key]
    assert config == value
    assert (name, left) == ("digits_cnn", ["--workdir=x"])


def test_another_name_brings_its_own_arguments():
    """None of them is in the file: they become settable because the section's name says so."""
    flags = ["--config.data.name=npz", "--config.data.path=x.npz", "--config.optimizer.b1=0.8"]
    flags += ["--config.optimizer.learning_rate.decay_steps=10", "--config.loss.name=softmax_cross_entropy"]
    config, _, _ = from_flags([f"--config={ROOT}/configs/digits_cnn.py", *flags])
    assert config["data"] == {"name": "npz", "path": "x.npz", "validation": 0.1, "split_seed": 0}
    assert config["optimizer"]["learning_rate"]["decay_steps"] == 10
    assert config["optimizer"]["b1"] == 0.8


def test_a_section_can_be_replaced_as_a_whole():
    config, _, _ = from_flags(
        [f"--config={ROOT}/configs/digits_cnn.py", "--config.optimizer={'name': 'sgd', 'learning_rate': 0.1}"]
    )
    assert config["optimizer"]["name"] == "sgd"
    assert "b1" not in config["optimizer"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--config=FILE is missing"),
        (["--config=configs/nothing.py"], "no such .py or .json file"),
        (["--config=pyproject.toml"], "no such .py or .json file"),
        (["--config=configs"], "no such .py or .json file"),
        (["--config=digits.py", "--config"], "--config is empty: give it a value, --config=..., or leave it out"),
        ([f"--config={ROOT}/configs/digits_cnn.py", "--config.augment[0].p=2"], "a sequence is set as a whole"),
    ],
)
def test_a_missing_config_is_said(arguments, said):
    with pytest.raises(InputError, match=said):
        from_flags(arguments)


def test_files_that_are_no_config_are_refused(tmp_path):
    for name, text, said in [
        ("a.json", "{not json", "JSONDecodeError"),
        ("b.json", "[1, 2]", "holds list"),
        ("c.py", "x = 1\n", "no attribute 'get_config'"),
        ("d.py", "def get_config(:\n", "SyntaxError"),
        ("e.py", "def get_config():\n    return 3\n", "holds int"),
        ("f.py", "def get_config():\n    return {}['x']\n", "KeyError: 'x'"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=said) as caught:
            from_flags([f"--config={tmp_path / name}"])
        assert "\n" not in str(caught.value)


def test_a_key_that_nothing_reads_is_an_error():
    reads = Reads({"seed": 0, "data": {"name": "digits", "validation": 0.1}})
    assert (reads["seed"], reads["data"]["name"]) == (0, "digits")
    with pytest.raises(InputError, match=r"config\.data\.validation = 0\.1 is set, and nothing reads it"):
        reads.check_all_read()
    assert dict(reads["data"]) == {"name": "digits", "validation": 0.1}
    reads.check_all_read()


def test_a_key_that_nothing_reads_is_an_error_in_a_sequence_too():
    reads = Reads({"augment": ({"name": "flip"}, {"name": "crop", "padding": 4}), "widths": (8, (4, 4))})
    assert reads["widths"] == (8, (4, 4))
    first, second = reads["augment"]
    assert (dict(first), second["name"]) == ({"name": "flip"}, "crop")
    with pytest.raises(InputError, match=r"config\.augment\[1\]\.padding = 4 is set, and nothing reads it"):
        reads.check_all_read()
    assert second["padding"] == 4
    reads.check_all_read()


def test_a_sequence_of_sections_can_be_set(tmp_path, monkeypatch):
    """In a file and on the command line; what it may hold is not asked here."""
    monkeypatch.setattr(experiments.settings.flags, "check", lambda values: values)
    file = tmp_path / "config.py"
    text = "from ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict({})\n"
    file.write_text(text.format("{'augment': [{'name': 'flip'}], 'freeze': 'Dense_0/bias'}"))
    assert from_flags([f"--config={file}"])[0] == {"augment": ({"name": "flip"},), "freeze": "Dense_0/bias"}
    flag = "--config.augment=[{'name': 'crop', 'padding': 4}, {'name': 'flip'}]"
    config, _, _ = from_flags([f"--config={file}", flag, "--config.factors=[('bias$', 64)]", "--config.freeze=^Conv.*"])
    assert config["augment"] == ({"name": "crop", "padding": 4}, {"name": "flip"})
    assert (config["factors"], config["freeze"]) == ((("bias$", 64),), "^Conv.*")
    file.write_text(text.format("{}"))
    assert from_flags([f"--config={file}", flag])[0] == {"augment": config["augment"]}


OLD = {
    "experiment": "classify",
    "train": {"batch_size": 8, "steps": 3, "part": "encoder", "anew": "Dense", "init_from": "runs/x"},
    "data": {"name": "digits"},
    "model": {"name": "CNN"},
    "loss": {"name": "softmax_cross_entropy"},
    "optimizer": {"name": "adam", "learning_rate": 0.1},
    "labels": 100,
    "rates": [["bias$", 2.0]],
    "clip_norm": 1.0,
    "l1": 0.1,
    "l2": 0.2,
    "layer_decay": 0.5,
    "freeze": "^Conv",
    "accumulate": 2,
    "ema": 0.9,
}


def test_the_stored_config_of_an_older_run_is_read_under_todays_names(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(OLD))
    config, _, _ = from_flags([f"--config={file}"])
    assert config["updates"] == {
        "accumulate": 2,
        "freeze": "^Conv",
        "clip_norm": 1.0,
        "l1": 0.1,
        "l2": 0.2,
        "lr_factors": (("bias$", 2.0),),
        "layer_decay": 0.5,
        "ema": 0.9,
    }
    assert config["train_images"] == 100
    assert (config["train"]["submodule"], config["train"]["reinit"]) == ("encoder", "Dense")
    assert not {"labels", "rates", "ema", "part", "anew"} & {*config, *config["train"]}
    assert completed(OLD) == config
    assert completed(config) == config
    assert completed({"experiment": 3, "train": 4, "labels": 5}) == {"experiment": 3, "train": 4, "labels": 5}


@pytest.mark.parametrize("old", list(RENAMED))
def test_an_old_name_is_answered_with_the_new_one(old):
    with pytest.raises(InputError) as caught:
        from_flags([f"--config={ROOT}/configs/digits_cnn.py", f"--{old}=1"])
    assert str(caught.value) == f"{old} is now called {RENAMED[old]}."


def test_an_old_name_that_an_experiment_never_had_is_an_unknown_one():
    with pytest.raises(InputError, match=r"config\.labels = 1: The experiment 'gan' takes no such key"):
        from_flags([f"--config={ROOT}/configs/digits_gan.py", "--config.labels=1"])


@pytest.mark.parametrize("name", experiments.settings.schema.experiments())
def test_every_key_can_be_set_on_the_command_line(name):
    """ConfigDict has methods of its own: what bears the name of one, it takes for that."""
    assert not set(arguments_of(f"experiments.{name}", "build")) & set(dir(ConfigDict))
    assert "updates" in arguments_of(f"experiments.{name}", "build")
