"""What experiments make of images with one label, several or none; batches and durations that cannot be meant."""

import pathlib
from collections.abc import Callable

import jax
import numpy as np
import pytest

import launch
from experiments.experiment import Experiment, FinishedRun, Train, prepare
from experiments.images import check_one_label, in_turn, read_images
from experiments.judge import judge_of, train_images_like
from experiments.settings.flags import from_flags
from jaxrec.data.batches import Dataset
from jaxrec.data.transforms import unit_range
from jaxrec.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = {"name": "digits"}
RUN = ("--config.train.epochs=None", "--config.train.steps=2", "--config.train.batch_size=16")
SMALLER = {
    "autoencoder": ("model.widths=(8,)", "model.latent=3"),
    "vae": ("model={'name': 'DenseVAE', 'latent': 3, 'widths': (8,)}", "nll_samples=2", "nll_images=2"),
    "gan": (
        "generator={'name': 'DenseDecoder', 'widths': (4,)}",
        "discriminator={'name': 'DenseCritic', 'widths': (4,)}",
        "conditional=False",
    ),
    "cnn": (),
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, str]:
    """Sets of 80 images whose images have no labels, or several: the overriding data section."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    image, several = rng.integers(0, 256, (80, 8, 8), np.uint8), rng.integers(0, 2, (80, 3), np.uint8)
    np.savez(folder / "none.npz", x_train=image)
    np.savez(folder / "several.npz", x_train=image, y_train=several, boxes_train=rng.random((80, 2, 4)))
    return {name: f"{{'name': 'npz', 'path': '{folder / name}.npz'}}" for name in ("none", "several")}


def flags_of(config: str, data: str, *more: str) -> list[str]:
    flags = (f"data={data}", *SMALLER[config], *more)
    return [f"--config={ROOT}/configs/digits_{config}.py", *RUN, *(f"--config.{flag}" for flag in flags)]


def prepared(config: str, data: str) -> Experiment:
    experiment, _, _ = prepare(from_flags(flags_of(config, data))[0])
    return experiment


def batch_of(experiment: Experiment) -> dict[str, jax.Array]:
    return experiment.train.fetch(experiment.train.resident, experiment.train.host(0))


def trace(experiment: Experiment) -> None:
    """Traces the steps on the experiment's own batches, which have no labels."""
    batch, key = batch_of(experiment), jax.random.key(0)
    assert "label" not in batch
    state = jax.eval_shape(experiment.task.init, key, batch)
    for step in (experiment.task.train_step, experiment.task.eval_step):
        jax.eval_shape(step, state, batch, key)


def analysed(experiment: Experiment, evaluate: Callable, folder: pathlib.Path) -> tuple[dict, set[str]]:
    """What an experiment finds out about its first state, and the pictures it draws."""
    state = jax.jit(experiment.task.init)(jax.random.key(0), batch_of(experiment))
    found = experiment.analyse(FinishedRun(state, experiment.splits, evaluate, folder))
    return found, {path.name for path in folder.glob("*.png")}


@pytest.mark.parametrize("kind", ["none", "several"])
def test_codes_need_no_labels_and_their_probes_are_left_out(sets, kind, tmp_path):
    experiment = prepared("autoencoder", sets[kind])
    found, pictures = analysed(experiment, lambda batches, _: {"code": np.eye(batches.examples, 3)}, tmp_path)
    assert set(found["test"]) == {"pca_squared_error"}
    assert pictures == {"reconstructions_test.png", "filters.png"}
    if kind == "none":
        trace(experiment)


def test_a_variational_autoencoder_needs_no_labels(sets, tmp_path):
    experiment = prepared("vae", sets["none"])
    assert "encoder" in experiment.table()
    trace(experiment)
    found, pictures = analysed(experiment, lambda *_: {"active_units": 3.0}, tmp_path)
    assert "real_frechet_pixels" in found["test"]
    assert pictures == {"reconstructions.png", "samples.png", "walk.png"}


def test_a_gan_needs_no_labels(sets, tmp_path):
    experiment = prepared("gan", sets["none"])
    assert "generator" in experiment.table()
    assert experiment.watch(tmp_path)
    trace(experiment)


@pytest.mark.parametrize(
    ("config", "kind", "more", "said"),
    [
        ("cnn", "none", (), "A recogniser learns labels, and these data have none"),
        ("cnn", "several", ("class_weights=balanced",), "config.class_weights is for one label for each image"),
        (
            "vae",
            "none",
            ("conditional=True",),
            "config.conditional takes one label for each image, and these data have",
        ),
        ("gan", "several", ("conditional=True",), "these data have 3 for each"),
    ],
)
def test_what_needs_a_label_says_so_in_one_line(sets, config, kind, more, said, tmp_path, capsys):
    assert launch.main([*flags_of(config, sets[kind], *more), f"--workdir={tmp_path}/run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_every_array_of_a_set_comes_with_the_batches(sets):
    experiment = prepared("autoencoder", sets["several"])
    for batches in (experiment.train, *experiment.splits.values()):
        batch = jax.eval_shape(batches.fetch, batches.resident, batches.host(0))
        assert (batch["label"].shape, batch["boxes"].shape) == ((16, 3), (16, 2, 4))


def test_pictures_show_images_without_labels_as_they_come():
    ids = np.array([6, 2, 4])
    np.testing.assert_array_equal(in_turn(ids, None), ids)


def test_one_label_is_asked_for():
    image, splits = np.zeros((4, 2, 2, 1)), {"train": np.arange(4)}
    label = np.array([0, 1, 1, 0])
    assert check_one_label(Dataset({"image": image, "label": label}, splits, ("a", "b")), "This takes") is label
    with pytest.raises(InputError, match="This takes one label for each image, and these data have none"):
        check_one_label(Dataset({"image": image}, splits), "This takes")


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (
            {"epochs": 1e12},
            r"config.train.epochs = 1e\+12, 8.08e\+13 steps: steps are counted to 2,147,483,647 \(int32\)",
        ),
        ({"epochs": 1e308}, r"config.train.epochs = 1e\+308, inf steps"),
        ({"steps": 2**31}, "config.train.steps = 2147483648: steps are counted"),
        ({"steps": 10**400}, "config.train.steps = 10000000"),
    ],
)
def test_a_run_that_would_never_end_is_refused(train, said):
    with pytest.raises(InputError, match=said) as caught:
        read_images(DIGITS, Train(batch_size=16, **train), seed=0)
    assert "\n" not in str(caught.value)


def test_the_longest_run_is_allowed():
    assert read_images(DIGITS, Train(batch_size=16, steps=2**31 - 1), seed=0).steps == 2**31 - 1


def test_a_batch_larger_than_the_data_is_said_unless_a_few_images_are_to_be_learned_by_heart():
    train = Train(batch_size=2000, steps=1)
    with pytest.warns(UserWarning, match="batch_size = 2,000 is more than the 1,293 examples"):
        read_images(DIGITS, train, seed=0).batches(unit_range, unit_range)
    few, _ = read_images(DIGITS, train, seed=0, overfit=3).batches(unit_range, unit_range)
    ids, counts = np.unique(few.host(0)["id"], return_counts=True)
    assert (len(ids), counts.min(), counts.max()) == (3, 666, 667)


def test_real_images_to_be_compared_with_are_drawn_without_labels_too():
    data = Dataset({"image": np.zeros((9, 2, 2, 1))}, {"train": np.arange(2, 9), "test": np.arange(2)})
    found = train_images_like(data, 5)
    assert len(set(found)) == 5
    assert set(found) <= set(range(2, 9))
    assert judge_of(None, data).notes["features"]["images"] == {"train": 7, "test": 2}
