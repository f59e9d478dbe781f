"""Autoencoders: parameter counts by hand, their arithmetic in numpy, and encoders that are recognisers."""

import functools

import jax
import numpy as np
import optax
import pytest
from scipy import special

from jaxrec import losses
from jaxrec.errors import InputError
from jaxrec.losses import reconstruction
from jaxrec.models import CNN, MLP
from jaxrec.models.autoencoders import ConvAutoencoder, DenseAutoencoder
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.transfer import submodule_of, transfer

PUBLISHED_ENCODER = (784 * 1000 + 1000) + (1000 * 500 + 500) + (500 * 250 + 250) + (250 * 30 + 30)
PUBLISHED_DECODER = (30 * 250 + 250) + (250 * 500 + 500) + (500 * 1000 + 1000) + (1000 * 784 + 784)
# Compiling takes most of the time here, and half of that is optimisation.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SMALL = {"shape": (4, 3, 2), "widths": (6, 5), "latent": 3}


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@functools.cache
def initialised(model):
    return jit(functools.partial(model.init, train=False))(jax.random.key(0), images(2, *model.shape))


def outputs_of(model, params, x):
    return jit(functools.partial(model.apply, train=False))({"params": params}, x)


def dense(**arguments):
    """A small dense autoencoder, its parameters moved away from zero, as numpy arrays."""
    model = DenseAutoencoder(**SMALL, **arguments)
    rng = np.random.default_rng(1)
    params = jax.device_get(initialised(model)["params"])
    return model, jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape, scale=0.3).astype(np.float32), params)


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (DenseAutoencoder(), PUBLISHED_ENCODER + PUBLISHED_DECODER),
        (DenseAutoencoder(tied=True), PUBLISHED_ENCODER + 250 + 500 + 1000 + 784),
        (
            ConvAutoencoder(shape=(10, 8, 3), widths=(4, 6), latent=5, hidden=(7,)),
            # 10x8 is halved to 5x4 and 2x2; the decoder begins at 3x2 and cuts 12x8 to 10x8.
            *[
                (9 * 3 * 4 + 4)
                + (9 * 4 * 6 + 6)
                + (2 * 2 * 6 * 7 + 7)
                + (7 * 5 + 5)
                + (5 * 3 * 2 * 6 + 3 * 2 * 6)
                + (16 * 6 * 4 + 4)
                + (16 * 4 * 3 + 3)
            ],
        ),
    ],
    ids=["published", "tied", "convolutional"],
)
def test_parameter_counts(model, count):
    image = jax.ShapeDtypeStruct((1, *model.shape), np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count
    outputs = jax.eval_shape(functools.partial(model.apply, train=False), shapes, image)
    assert outputs["logits"].shape == image.shape
    assert outputs["code"].shape == (1, model.latent)


@pytest.mark.parametrize("tied", [False, True])
def test_dense_is_sigmoid_layers_and_a_linear_code(tied):
    model, params = dense(activation="sigmoid", tied=tied)
    x = images(5, *SMALL["shape"])
    encoder = [
        (params["encoder"][f"Dense_{layer}"]["kernel"], params["encoder"][f"Dense_{layer}"]["bias"])
        for layer in range(3)
    ]
    if tied:
        decoder = [(encoder[2 - layer][0].T, params["decoder"][f"bias_{layer}"]) for layer in range(3)]
    else:
        decoder = [
            (params["decoder"][f"Dense_{layer}"]["kernel"], params["decoder"][f"Dense_{layer}"]["bias"])
            for layer in range(3)
        ]
    value = x.reshape(5, -1)
    for layer, (kernel, bias) in enumerate([*encoder, *decoder]):
        value = value @ kernel + bias
        if layer == 2:
            code = value
        elif layer < 5:
            value = special.expit(value)
    outputs = outputs_of(model, params, x)
    np.testing.assert_allclose(outputs["code"], code, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["logits"], value.reshape(x.shape), rtol=1e-4, atol=1e-5)
    again = jit(functools.partial(model.apply, method="decode"))({"params": params}, outputs["code"])
    np.testing.assert_allclose(again, outputs["logits"], rtol=1e-5, atol=1e-6)


def test_a_tied_kernel_learns_from_both_of_its_places():
    """Its gradient is that of the encoder's kernel plus the transposed one of the decoder's, were they two."""
    tied, params = dense(tied=True)
    apart, _ = dense()
    kernels = [params["encoder"][f"Dense_{layer}"]["kernel"] for layer in range(3)]
    decoder = {
        f"Dense_{layer}": {"kernel": kernels[2 - layer].T, "bias": params["decoder"][f"bias_{layer}"]}
        for layer in range(3)
    }
    x = images(5, *SMALL["shape"])

    def gradient(model, params):
        def loss(params):
            outputs = model.apply({"params": params}, x, train=False)
            return reconstruction.squared_error(outputs, {"image": x})["loss"].sum()

        return jit(jax.grad(loss))(params)

    one, two = gradient(tied, params), gradient(apart, {"encoder": params["encoder"], "decoder": decoder})
    for layer in range(3):
        both = two["encoder"][f"Dense_{layer}"]["kernel"] + two["decoder"][f"Dense_{2 - layer}"]["kernel"].T
        np.testing.assert_allclose(one["encoder"][f"Dense_{layer}"]["kernel"], both, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(
            one["decoder"][f"bias_{layer}"], two["decoder"][f"Dense_{layer}"]["bias"], rtol=1e-3, atol=1e-5
        )


def test_the_code_goes_through_its_own_activation():
    model, params = dense(code_activation="relu")
    linear, _ = dense()
    x = images(5, *SMALL["shape"])
    code, before = (
        jit(functools.partial(each.apply, method="encode"))({"params": params}, x) for each in (model, linear)
    )
    assert (np.asarray(before) < 0).any()
    np.testing.assert_allclose(code, np.maximum(before, 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "recogniser"),
    [
        (DenseAutoencoder(**SMALL), MLP(classes=3, widths=(6, 5))),
        (
            ConvAutoencoder(shape=(8, 8, 1), widths=(4,), latent=3, norm="batch"),
            CNN(classes=3, widths=(4,), hidden=(), norm="batch", padding="SAME"),
        ),
    ],
    ids=["dense", "convolutional"],
)
def test_an_encoder_is_a_recogniser(model, recogniser):
    """By the paths of its parameters, and what it computes with them."""
    variables = initialised(model)
    x = images(2, *model.shape, seed=3)
    of_encoder = {name: tree["encoder"] for name, tree in variables.items()}
    logits = jit(functools.partial(recogniser.apply, train=False))(of_encoder, x)
    code = jit(functools.partial(model.apply, method="encode"))(variables, x)
    np.testing.assert_allclose(code, logits, rtol=1e-5, atol=1e-6)


def test_filters_are_the_weights_of_the_first_layer():
    model, params = dense()
    filters = model.apply({"params": params}, method="filters")
    assert filters.shape == (6, *SMALL["shape"])
    x = images(1, *SMALL["shape"])
    first = x.reshape(1, -1) @ params["encoder"]["Dense_0"]["kernel"]
    np.testing.assert_allclose((filters * x).sum((1, 2, 3)), first[0], rtol=1e-4, atol=1e-6)
    conv = ConvAutoencoder(shape=(8, 8, 2), widths=(3,), kernel=5, latent=2)
    variables = initialised(conv)
    filters = conv.apply(variables, method="filters")
    np.testing.assert_array_equal(filters[2], variables["params"]["encoder"]["Conv_0"]["kernel"][..., 2])


@pytest.mark.parametrize("model", [DenseAutoencoder, ConvAutoencoder])
def test_half_precision_is_of_the_computation_alone(model):
    model = model(shape=(4, 4, 1), widths=(4,), latent=2, dtype="bfloat16")
    image = jax.ShapeDtypeStruct((1, 4, 4, 1), np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    outputs = jax.eval_shape(functools.partial(model.apply, train=False), shapes, image)
    assert {leaf.dtype for leaf in jax.tree.leaves((shapes, outputs))} == {np.dtype("float32")}


def test_a_recogniser_takes_an_encoder_over():
    """Its hidden units see in an image what those of the encoder see; the output layer is its own."""
    model = DenseAutoencoder(shape=(4, 3, 2), widths=(6, 5), latent=3)
    batch = {"image": images(4, 4, 3, 2), "label": np.zeros(4, int), "mask": np.ones(4, bool)}
    source = jit(from_loss(model, reconstruction.squared_error, optax.sgd(0.1)).init)(jax.random.key(1), batch)
    classifier = MLP(classes=3, widths=(6, 5))
    fresh = jit(from_loss(classifier, losses.softmax_cross_entropy, optax.sgd(0.1)).init)(jax.random.key(2), batch)
    learned = {"params": source.params, "extra": source.extra}
    state, report = transfer(fresh, submodule_of(learned, "encoder"), reinit="^Dense_2/")
    assert report == "4 arrays loaded; fresh: Dense_2/bias, Dense_2/kernel; unused: Dense_2/bias, Dense_2/kernel."

    def hidden(model, params):
        call = functools.partial(model.apply, train=False, capture_intermediates=True)
        _, found = jit(call)({"params": params}, batch["image"])
        found = found["intermediates"].get("encoder", found["intermediates"])
        return found["Dense_1"]["__call__"][0]

    np.testing.assert_array_equal(hidden(classifier, state.params), hidden(model, source.params))
    assert (np.asarray(hidden(classifier, fresh.params)) != np.asarray(hidden(model, source.params))).any()
    np.testing.assert_array_equal(state.params["Dense_2"]["kernel"], fresh.params["Dense_2"]["kernel"])
    with pytest.raises(InputError, match=r"train.submodule = 'encodr': that run's network has the submodules decoder"):
        submodule_of(learned, "encodr")


def test_a_part_comes_with_its_batch_statistics():
    source = {
        "params": {"encoder": {"a": 1}, "decoder": {"b": 2}},
        "extra": {"batch_stats": {"encoder": {"m": 3}, "decoder": {"m": 4}}, "other": {"decoder": {"o": 5}}},
    }
    assert submodule_of(source, "encoder") == {"params": {"a": 1}, "extra": {"batch_stats": {"m": 3}}}
