"""Everything that makes training better, all at once: what holds of a plain run holds of it too."""

import contextlib
import json
import pathlib

import jax
import numpy as np
import pytest

from experiments import classify
from experiments.commands.run import run
from experiments.experiment import prepare
from experiments.settings.flags import from_flags
from jaxrec import losses
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.program import compile_task
from jaxrec.errors import InputError
from jaxrec.sharding import data_parallel

ROOT = pathlib.Path(__file__).parents[2]
RECIPE = {
    "augment": (
        {"name": "random_crop", "padding": 1},
        {"name": "random_rotation", "degrees": 10.0},
        {"name": "salt_and_pepper", "share": 0.05},
    ),
    "alternating_flip": True,
    "mix": {"name": "mixup"},
    "optimizer": {
        "name": "muon",
        "learning_rate": {"name": "warmup_cosine", "peak": 0.02, "warmup": 0.2},
        "adam_learning_rate": 1e-3,
    },
    "updates": {
        "accumulate": 2,
        "clip_norm": 1.0,
        "l1": 1e-5,
        "l2": 1e-4,
        "lr_factors": (("bias$", 2.0),),
        "ema": 0.9,
    },
    "class_weights": "balanced",
    "test_views": "mirror",
}


@pytest.fixture(scope="module")
def config() -> dict:
    flags = [f"--config.{key}={value!r}" for key, value in RECIPE.items()]
    checked, _, _ = from_flags(
        [
            f"--config={ROOT}/configs/digits_cnn.py",
            "--config.model.widths=(4,)",
            "--config.model.hidden=(8,)",
            "--config.train.batch_size=32",
            "--config.train.epochs=None",
            "--config.train.steps=9",
            "--config.train.log_every=3",
            "--config.train.eval_every=3",
            "--config.train.save_every=3",
            *flags,
        ]
    )
    return checked


@pytest.mark.slow  # tests/test_launch.py and tests/engine/test_loop.py have the quick forms
def test_it_resumes_to_the_same_bits(config, tmp_path):
    run(config, tmp_path / "whole")
    run(config, tmp_path / "broken", until=6, finish=False)
    run({**config, "train": {**config["train"], "evaluate_train": False}}, tmp_path / "broken")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert (whole / "metrics.jsonl").read_text() == (broken / "metrics.jsonl").read_text()
    assert "validation/ema_accuracy" in (whole / "metrics.jsonl").read_text()
    results = [json.loads((folder / "result.json").read_text())["metrics"] for folder in (whole, broken)]
    assert results[0].keys() == {"train", "validation", "test"}
    assert results[1] == {split: results[0][split] for split in ("validation", "test")}
    states = []
    for folder in (whole, broken):
        with Checkpoints(folder / "checkpoints") as checkpoints:
            states.append(checkpoints.read(9))
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.slow  # tests/engine/test_sharding.py has the quick form
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_the_number_of_devices_changes_nothing(config, one_device, parallel):
    # Batch statistics and dropout of a part depend on which examples are in it, so both are left out.
    plain = {**config["model"], "norm": "none", "dropout": 0.0}
    experiment, _, _ = prepare({**config, "model": plain})
    results = []
    for devices in (one_device, data_parallel(parallel=parallel)):
        program = compile_task(experiment.task, experiment.train, parallel=devices)
        state, means = program.train(program.init(), 0, 3)
        results.append((state, means, program.evaluate(state, experiment.splits["validation"])))
    (one, one_means, one_metrics), (many, many_means, many_metrics) = results
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), one.params, many.params)
    for name, value in {**one_means, **one_metrics}.items():
        np.testing.assert_allclose({**many_means, **many_metrics}[name], value, rtol=1e-3, atol=1e-3, err_msg=name)


def test_class_weights_scale_the_loss_of_their_class():
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    batch = {"label": np.array([0, 1, 2, 2]), "mask": np.ones(4, bool)}
    plain = losses.softmax_cross_entropy(logits, batch)
    weighted = classify._weighted(losses.softmax_cross_entropy, (2.0, 0.0, 1.0), batch["label"], 3)(logits, batch)
    np.testing.assert_allclose(weighted["loss"], plain["loss"] * np.array([2, 0, 1, 1]), rtol=1e-6)
    np.testing.assert_array_equal(weighted["accuracy"], plain["accuracy"])
    balanced = classify._weighted(losses.softmax_cross_entropy, "balanced", batch["label"], 3)(logits, batch)
    # As scikit-learn: N / (K * examples of the class) = 4 / (3 * 1), 4 / 3, 4 / (3 * 2).
    np.testing.assert_allclose(balanced["loss"], plain["loss"] * np.array([4, 4, 2, 2]) / 3, rtol=1e-6)


def test_a_mixed_example_weighs_as_both_of_its_classes():
    logits = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    batch = {"label": np.array([0, 1]), "mask": np.ones(2, bool)}
    mixed = {**batch, "other_label": np.array([1, 2]), "share": np.array([0.3, 1.0], np.float32)}
    weighted = classify._weighted(losses.softmax_cross_entropy, (2.0, 5.0, 7.0), batch["label"], 3)(logits, mixed)
    log_p = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(
        weighted["loss"], [-0.3 * 2 * log_p[0, 0] - 0.7 * 5 * log_p[0, 1], -5 * log_p[1, 1]], rtol=1e-5
    )


@pytest.mark.slow
def test_frozen_parameters_stay_and_the_others_move(config):
    experiment, _, _ = prepare({**config, "updates": {**config["updates"], "freeze": "^Conv_0/"}})
    program = compile_task(experiment.task, experiment.train)
    first = jax.device_get(program.init().params)
    state, _ = program.train(program.init(), 0, 2)
    np.testing.assert_array_equal(state.params["Conv_0"]["kernel"], first["Conv_0"]["kernel"])
    assert (np.asarray(state.params["Dense_0"]["kernel"]) != first["Dense_0"]["kernel"]).any()
    with pytest.raises(InputError, match="haed"):
        compile_task(prepare({**config, "updates": {"freeze": "haed"}})[0].task, experiment.train)


@pytest.mark.parametrize("name", ["digits_cnn", "digits_autoencoder", "digits_vae", "digits_gan"])
def test_every_experiment_takes_what_is_done_to_updates(name):
    """All of it on the way to the optimizers; patterns that mean nothing are said when these see the parameters."""
    settings, _, _ = from_flags([f"--config={ROOT}/configs/{name}.py", "--config.train.batch_size=8"])
    for updates, said in [
        ({"freeze": "haed"}, "'haed' is found in the path of no parameter"),
        ({"lr_factors": (("bais", 2.0),)}, "'bais' is found in the path of no parameter"),
        ({"layer_decay": 0.5}, "layer_decay = 0.5 needs a model whose layers are called block_0"),
        ({"accumulate": 3}, "accumulate = 3"),
        ({"clip_norm": 1.0, "l1": 1e-5, "l2": 1e-5, "ema": 0.5, "freeze": "bias"}, None),
    ]:
        with pytest.raises(InputError, match=said) if said else contextlib.nullcontext():
            experiment, _, _ = prepare({**settings, "updates": {**settings["updates"], **updates}})
            batch = jax.eval_shape(experiment.train.fetch, experiment.train.resident, experiment.train.host(0))
            state = jax.eval_shape(experiment.task.init, jax.random.key(0), batch)
            state, _ = jax.eval_shape(experiment.task.train_step, state, batch, jax.random.key(0))
    assert "ema" in state.extra
    assert experiment.monitor is None or experiment.monitor.startswith("validation/ema_")


def test_two_flips_that_undo_each_other_are_refused(config):
    with pytest.raises(InputError, match="alternating_flip is undone by random_flip"):
        prepare({**config, "augment": [{"name": "random_flip", "probability": 0.5}]})
