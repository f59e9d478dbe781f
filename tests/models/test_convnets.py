"""Convolutional networks: dropping, types, refusals. Their arithmetic is compared in `test_parity.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from references import random_variables, shapes_of
from test_models import equations

from jaxrec import models
from jaxrec.errors import InputError
from jaxrec.models.blocks import DropPath, linear_rule

# Small ones of each, and an image that leaves something to their last layer.
TINY = [
    (models.LeNet5(classes=3), (28, 28, 1)),
    (models.AlexNet(classes=3, width=2, hidden=(6,)), (15, 15, 3)),
    (models.VGG(classes=3, depth=11, width=2, hidden=(6,)), (32, 32, 3)),
    (models.VGG(classes=3, depth=11, width=2, norm="none"), (32, 32, 3)),
    (models.GoogLeNet(classes=3, width=4), (8, 8, 3)),
    (models.ResNet(classes=3, blocks=(1, 1), width=4), (8, 8, 3)),
    (models.PreActResNet(classes=3, blocks=(1, 1), width=4), (8, 8, 3)),
    (models.WideResNet(classes=3, depth=10, widen=1), (8, 8, 3)),
    (models.DenseNet(classes=3, blocks=(1, 1), growth=4), (8, 8, 3)),
]


def kind(value) -> str:
    return type(value).__name__


@pytest.mark.parametrize(("model", "shape"), TINY, ids=kind)
def test_bfloat16_computes_in_half_and_keeps_parameters_norms_and_logits_whole(model, shape):
    model = model.clone(dtype="bfloat16")
    logits, variables = shapes_of(model, shape)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    image = jnp.zeros((2, *shape))
    jaxpr = jax.make_jaxpr(lambda variables: model.apply(variables, image, train=False))(variables).jaxpr
    found = [(e.primitive.name, e.outvars[0].aval.dtype.name) for e in equations(jaxpr)]
    products = [dtype for name, dtype in found if name in ("dot_general", "conv_general_dilated")]
    assert products.count("float32") == 1 < len(products)  # that of the logits
    assert {dtype for name, dtype in found if name == "rsqrt"} <= {"float32"}


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (models.AlexNet(), (14, 32, 3)),
        (models.AlexNet(stem="large"), (62, 64, 3)),
        (models.VGG(), (31, 32, 3)),
        (models.GoogLeNet(stem="large"), (8, 8, 3)),
        (models.DenseNet(), (3, 8, 3)),
        (models.DenseNet(stem="large", blocks=(1, 1, 1, 1)), (8, 8, 3)),
    ],
    ids=kind,
)
def test_an_image_too_small_for_the_network_is_refused(model, shape):
    with pytest.raises(InputError, match=rf"nothing is left of an image of {shape[0]}x{shape[1]} pixels\. Use "):
        shapes_of(model, shape)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (models.AlexNet(), (15, 15, 3)),
        (models.AlexNet(stem="large"), (63, 63, 3)),
        (models.VGG(), (32, 32, 3)),
        (models.GoogLeNet(), (1, 1, 3)),
        (models.PreActResNet(), (1, 1, 3)),
        (models.DenseNet(), (4, 4, 3)),
    ],
    ids=kind,
)
def test_the_smallest_image_is_taken(model, shape):
    assert shapes_of(model, shape)[0].shape == (2, 10)


@pytest.mark.parametrize(("depth", "near"), [(1, "10"), (4, "10"), (9, "10"), (30, "28 or 34")])
def test_a_wide_residual_network_has_depths_that_blocks_make(depth, near):
    with pytest.raises(InputError, match=rf"depth = {depth} is not 6 n \+ 4: use {near}\."):
        shapes_of(models.WideResNet(depth=depth), (8, 8, 3))


def test_drop_path_drops_whole_examples_in_training_alone():
    x = np.ones((2000, 2, 3), np.float32)
    drop = DropPath(0.75)
    np.testing.assert_array_equal(drop.apply({}, x, train=False), x)
    y = np.asarray(drop.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}))
    assert set(np.unique(y)) == {0, 4}  # 1 / (share kept)
    assert (y == y[:, :1, :1]).all()
    assert abs((y[:, 0, 0] > 0).mean() - 0.25) < 0.04  # four standard deviations


def test_depth_raises_the_rate_in_line():
    np.testing.assert_allclose(linear_rule(0.5, 4), [0.125, 0.25, 0.375, 0.5])
    np.testing.assert_allclose(linear_rule(0.3, 4, from_zero=True), [0, 0.1, 0.2, 0.3])
    assert linear_rule(0.3, 1, from_zero=True) == [0]
    assert linear_rule(0.0, 3) == [0, 0, 0]


@pytest.mark.parametrize(
    ("model", "last"),
    [
        (models.ResNet(blocks=(1,), width=4), "BatchNorm_2"),
        (models.PreActResNet(blocks=(1,), width=4, last_norm=False), "Conv_2"),
        (models.PreActResNet(blocks=(1,), width=4, last_norm=False, block="bottleneck"), "Conv_3"),
    ],
    ids=kind,
)
def test_stochastic_depth_drops_the_branch_and_never_the_shortcut(model, last):
    """Of copies of one image, some are as they would be if the branch's last layer were 0."""
    variables = random_variables(model, (8, 8, 3))
    without = variables["params"] | {last: jax.tree.map(np.zeros_like, variables["params"][last])}
    image = np.repeat(np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32), 64, axis=0)

    def logits(rate: float, params) -> np.ndarray:
        network, key = model.clone(stochastic_depth=rate), jax.random.key(0)

        @jax.jit
        def run(params):
            given = variables | {"params": params}
            return network.apply(given, image, train=True, rngs={"dropout": key}, mutable=["batch_stats"])[0]

        return np.asarray(run(params))

    full, shortcut, drawn = logits(0.0, variables["params"]), logits(0.0, without), logits(0.5, variables["params"])
    assert np.abs(full - shortcut).min() > 1e-4  # more than the tolerance below
    dropped = np.isclose(drawn, shortcut, rtol=1e-4, atol=1e-5).all(1)
    assert 12 <= dropped.sum() <= 52  # five standard deviations
    assert (drawn[~dropped] != full[~dropped]).all()
    if isinstance(model, models.PreActResNet):  # no relu after the sum
        np.testing.assert_allclose((drawn - shortcut)[~dropped], 2 * (full - shortcut)[~dropped], rtol=1e-3, atol=1e-4)


def dropping(model: nn.Module, shape: tuple[int, ...]) -> int:
    """How many dropouts of `model` draw something in training."""

    def run(variables, key):
        image = jnp.zeros((2, *shape))
        return model.apply(variables, image, train=True, rngs={"dropout": key}, mutable=["batch_stats"])

    jaxpr = jax.make_jaxpr(run)(shapes_of(model, shape)[1], jax.random.key(0)).jaxpr
    return sum(equation.primitive.name == "random_bits" for equation in equations(jaxpr))


@pytest.mark.parametrize(
    ("model", "shape", "count"),
    [
        (models.AlexNet(width=2, hidden=(6, 6)), (15, 15, 3), 2),
        (models.VGG(width=2, hidden=(6, 6)), (32, 32, 3), 2),
        (models.VGG(width=2), (32, 32, 3), 0),
        (models.GoogLeNet(width=4, dropout=0.4), (8, 8, 3), 1),
        (models.WideResNet(depth=16, widen=1, dropout=0.3), (8, 8, 3), 6),  # one in each block
        (models.WideResNet(depth=16, widen=1, stochastic_depth=0.3), (8, 8, 3), 6),
        (models.PreActResNet(blocks=(2, 1), width=4, block="bottleneck", dropout=0.3), (8, 8, 3), 3),
        (models.DenseNet(blocks=(2, 1), growth=4, dropout=0.2), (8, 8, 3), 7),  # two in each layer, one between blocks
        (models.DenseNet(blocks=(2, 1), growth=4), (8, 8, 3), 0),
    ],
    ids=kind,
)
def test_dropout_is_where_the_papers_have_it(model, shape, count):
    assert dropping(model, shape) == count
