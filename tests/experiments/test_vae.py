"""Variational autoencoders as models and as an experiment, down to the pictures in a run's folder."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image as files

import launch
from experiments.experiment import prepare
from experiments.settings.flags import from_flags
from experiments.vae import COLUMNS, _transforms
from jaxrec.engine.loop import Moment
from jaxrec.errors import InputError
from jaxrec.models.vae import ConvVAE, DenseVAE, sample

CONFIG = f"--config={pathlib.Path(__file__).parents[2]}/configs/digits_vae.py"


# Models.


def count(model, image) -> int:
    labels = jnp.zeros(len(image), jnp.int32)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), image, None, labels, train=False))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_the_network_of_the_tables_has_its_parameters():
    image = jnp.zeros((1, 28, 28, 1))
    encoder = 784 * 200 + 200 + 200 * 200 + 200 + 2 * (200 * 50 + 50)
    decoder = 50 * 200 + 200 + 200 * 200 + 200 + 200 * 784 + 784
    assert count(DenseVAE(), image) == encoder + decoder
    assert count(DenseVAE(scaled=True), image) == encoder + decoder + 1
    assert count(DenseVAE(classes=10), image) == encoder + decoder + 2 * 10 * 200


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("model", [DenseVAE(widths=(8,)), ConvVAE(widths=(4, 8), hidden=(8,))], ids=["dense", "conv"])
def test_shapes_and_labels(model, classes):
    """Odd sides and two channels; a conditional model hears the label in both networks, another in none."""
    model = model.clone(shape=(7, 6, 2), latent=3, classes=classes, scaled=True)
    image = jax.random.uniform(jax.random.key(0), (4, 7, 6, 2))
    keys, label = jax.random.split(jax.random.key(1), 4), jnp.array([0, 1, 2, 0])

    @jax.jit
    def called(*labels):
        variables = model.init(jax.random.key(2), image, None, label, train=False)
        return [model.apply(variables, image, keys, told, train=False, samples=5) for told in labels]

    outputs, other = called(label, (label + 1) % 3)
    shapes = {"mean": (4, 3), "log_var": (4, 3), "code": (4, 5, 3), "logits": (4, 5, 7, 6, 2), "log_scale": ()}
    assert {name: value.shape for name, value in outputs.items()} == shapes
    np.testing.assert_allclose(outputs["log_scale"], -1, rtol=1e-6)
    for name in ("mean", "logits"):
        assert (outputs[name] != other[name]).any() == bool(classes)


@pytest.mark.parametrize("model", [DenseVAE(widths=(8,)), ConvVAE(widths=(4,), hidden=(8,), norm="batch")])
def test_bfloat16_computes_in_half_and_keeps_parameters_codes_and_outputs_whole(model):
    """Rounded to 8 bits a number is within 1 part in 256; what is returned shows that it was rounded on the way."""
    model = model.clone(shape=(4, 4, 1), latent=3, scaled=True)
    image, keys = jax.random.uniform(jax.random.key(0), (4, 4, 4, 1)), jax.random.split(jax.random.key(1), 4)
    variables = jax.jit(lambda: model.init(jax.random.key(2), image, None, train=False))()
    assert count(model.clone(dtype="bfloat16"), image) == count(model, image)
    whole, half = (
        jax.jit(lambda network: network.apply(variables, image, keys, train=False), static_argnums=0)(network)
        for network in (model, model.clone(dtype="bfloat16"))
    )
    half_variables = jax.eval_shape(lambda: model.clone(dtype="bfloat16").init(keys[0], image, None, train=False))
    assert {leaf.dtype for leaf in jax.tree.leaves((half_variables, half))} == {jnp.dtype("float32")}
    for name in ("mean", "log_var", "logits"):
        np.testing.assert_allclose(half[name], whole[name], atol=0.05, err_msg=name)
        assert (half[name] != whole[name]).any(), name


def test_draws_follow_from_key_and_number_and_have_the_moments():
    mean, log_var = jnp.array([[1.0, -2.0], [0.0, 3.0]]), jnp.array([[0.0, -2.0], [1.0, 0.5]])
    keys = jax.random.split(jax.random.key(0), 2)
    drawn = sample(mean, log_var, keys, jnp.arange(20_000))
    np.testing.assert_allclose(drawn.mean(1), mean, atol=0.05)
    np.testing.assert_allclose(drawn.std(1), np.exp(log_var / 2), rtol=0.03)
    np.testing.assert_array_equal(sample(mean, log_var, keys, jnp.array([7, 3])), drawn[:, np.array([7, 3])])
    np.testing.assert_array_equal(sample(mean[1:], log_var[1:], keys[1:], jnp.arange(9)), drawn[1:, :9])


# Binarisation.


def rows_of(ids, epoch=None) -> dict[str, np.ndarray]:
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), np.uint8)
    epochs = {} if epoch is None else {"epoch": np.full(len(ids), epoch)}
    return {"image": image[ids], "id": np.asarray(ids), "seed": np.full(len(ids), 4, np.uint32), **epochs}


def test_binarisation_is_drawn_anew_where_it_is_dynamic():
    (dynamic, judge), (fixed, _) = (map(jax.jit, _transforms(kind)) for kind in ("dynamic", "fixed"))
    first, second, again = (np.asarray(dynamic(rows_of(range(9), epoch))["image"]) for epoch in (0, 1, 0))
    assert set(np.unique(first)) == {0, 1}
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)
    evaluated = np.asarray(judge(rows_of(range(9)))["image"])
    np.testing.assert_array_equal(judge(rows_of([5, 2]))["image"], evaluated[np.array([5, 2])])
    batch = fixed(rows_of([5, 2], epoch=3))
    np.testing.assert_array_equal(batch["image"], evaluated[np.array([5, 2])])
    assert set(batch) == {"image", "id", "seed", "epoch"}


def test_binarisation_keeps_the_grey_value_in_the_mean():
    dynamic, _ = _transforms("dynamic")
    draws = jax.jit(jax.vmap(lambda epoch: dynamic({**rows_of([0, 1]), "epoch": jnp.full(2, epoch)})["image"]))
    grey = rows_of([0, 1])["image"] / 255
    drawn = np.asarray(draws(jnp.arange(2000)))
    error = np.sqrt(grey * (1 - grey) / len(drawn))
    assert (np.abs(drawn.mean(0) - grey) <= 5 * error).all()


# The experiment.


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config.objective=iwae", "--config.beta=2.0"], "are for objective 'elbo'"),
        (["--config.binarise=dynamic"], "is for the likelihood 'bernoulli', not 'discretised_logistic'"),
    ],
)
def test_what_does_not_go_together_is_refused(flags, said):
    with pytest.raises(InputError, match=said):
        prepare(from_flags([CONFIG, *flags])[0])


def test_only_variational_models_and_likelihoods_are_known():
    for flag in ("--config.model.name=CNN", "--config.likelihood.name=elbo", "--config.model.scaled=True"):
        with pytest.raises(InputError, match=r"There are: DenseVAE, ConvVAE|There are: bernoulli|takes no such key"):
            from_flags([CONFIG, flag])


def test_the_warning_is_shown_where_the_posterior_collapses(tmp_path):
    experiment, _, _ = prepare(from_flags([CONFIG])[0])
    *_, warn = experiment.watch(tmp_path)
    for active, warnings in ((None, 0), (16.0, 0), (0.0, 1)):
        scalars = {} if active is None else {"validation/ema_active_units": active}
        moment = Moment(1, 2, 0, None, 1, 1.0, None, scalars, [])
        assert warn(moment) is None
        assert len(moment.warnings) == warnings


@pytest.mark.slow
def test_a_conditional_run_with_two_units_leaves_its_pictures(tmp_path, capsys):
    flags = [
        *("model={'name': 'ConvVAE', 'latent': 2, 'widths': (4,), 'hidden': ()}", "likelihood={'name': 'bernoulli'}"),
        *("objective=iwae", "samples=2", "binarise=fixed", "conditional=True", "nll_samples=3", "nll_images=5"),
        *("train.steps=3", "train.epochs=None", "updates.ema=0.0"),
    ]
    assert launch.main([CONFIG, f"--workdir={tmp_path}/run", *(f"--config.{flag}" for flag in flags)]) == 0
    capsys.readouterr()
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    test = result["metrics"]["test"]
    assert (test["nll_samples"], test["nll_images"]) == (3, 5)
    assert 0 < test["nll"] < 64 * np.log(2) * 2
    assert test["elbo"] <= -test["loss"]  # the importance weighted bound is the tighter one
    shapes = {"samples": (10, 10), "walk": (10, 10), "manifold": (20, 20)}
    for name, (rows, columns) in shapes.items():
        assert files.imread(tmp_path / "run" / f"{name}.png").shape[:2] == (2 + 50 * rows, 2 + 50 * columns)
    assert files.imread(tmp_path / "run" / "reconstructions.png").shape[1] > COLUMNS * 96


def test_samples_follow_from_their_keys_and_classes():
    config, _, _ = from_flags([CONFIG, "--config.conditional=True", "--config.model.widths=(8,)"])
    experiment, _, _ = prepare(config)
    batch = {"image": np.zeros((1, 8, 8, 1), np.uint8), **{name: np.zeros(1, int) for name in ("label", "id", "seed")}}
    state = jax.jit(experiment.task.init)(jax.random.key(0), {**batch, "image": batch["image"] / 255})
    generate, keys = jax.jit(experiment.generate), jax.random.split(jax.random.key(1), 6)
    images = generate(state, keys, jnp.arange(6))
    assert images.shape == (6, 8, 8, 1)
    assert (images.min() >= 0) & (images.max() <= 1)
    np.testing.assert_allclose(generate(state, keys[2:4], jnp.array([2, 3])), images[2:4], rtol=1e-5, atol=1e-6)
    assert np.abs(generate(state, keys, jnp.arange(6) + 1) - images).max() > 1e-4
    assert generate(state, keys, None).shape == images.shape
