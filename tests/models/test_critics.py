"""Critics and generators: shapes, sizes, what a class changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.errors import InputError
from jaxrec.models import decoders
from jaxrec.models.critics import ConvCritic, DenseCritic, ResNetCritic
from jaxrec.models.decoders import ConvDecoder, DenseDecoder, ResNetDecoder
from jaxrec.models.generators import Generator


def shapes_of(network, *inputs):
    """(output shape, parameter count), nothing computed."""

    def run(*inputs):
        variables = network.init(jax.random.key(0), *inputs, train=False)
        out, _ = network.apply(variables, *inputs, train=True, mutable=list(variables))
        return out, variables["params"]

    out, params = jax.eval_shape(run, *inputs)
    return out.shape, sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("classes", [None, 10])
@pytest.mark.parametrize(
    "critic",
    [
        DenseCritic(),
        ConvCritic(norm="batch"),
        ConvCritic(norm="layer", dtype="bfloat16"),
        ConvCritic(widths=(4,), hidden=(6, 5)),
        ResNetCritic(width=8),
    ],
    ids=lambda critic: type(critic).__name__,
)
def test_critics_give_one_number_for_an_image(critic, classes, shape):
    image, label = jnp.zeros((5, *shape)), jnp.zeros(5, jnp.int32)
    assert shapes_of(critic.clone(classes=classes), image, label)[0] == (5,)
    if classes is None:
        assert shapes_of(critic, image)[0] == (5,)  # no label is needed


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize(
    "decoder",
    [DenseDecoder(widths=(8,)), ConvDecoder(widths=(8, 4), norm="batch"), ResNetDecoder(width=8)],
    ids=lambda decoder: type(decoder).__name__,
)
def test_decoders_give_images(decoder, shape):
    generator = Generator(decoder.clone(shape=shape), 10)
    assert shapes_of(generator, jnp.zeros((5, 16)), jnp.zeros(5, jnp.int32))[0] == (5, *shape)


def test_the_networks_of_sn_gan_have_the_papers_layers():
    """Miyato et al. (2018), table 4: counted by hand, batch norms with scale and offset."""
    w = 256
    block = 9 * w * w + (9 * w * w + w) + (w * w + w) + 4 * w  # two 3x3, the first before a norm; shortcut; two norms
    generator = (128 * 16 * w + 16 * w) + 3 * block + 2 * w + (9 * w * 3 + 3)
    assert shapes_of(ResNetDecoder(), jnp.zeros((1, 128))) == ((1, 32, 32, 3), generator)
    d = 128
    first = (9 * 3 * d + d) + (9 * d * d + d) + (3 * d + d)
    second, level = 2 * (9 * d * d + d) + (d * d + d), 2 * (9 * d * d + d)
    assert shapes_of(ResNetCritic(), jnp.zeros((1, 32, 32, 3))) == ((1,), first + second + 2 * level + d + 1)


def test_doubling_repeats_each_pixel():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(decoders._double(x), x.repeat(2, axis=1).repeat(2, axis=2))


def test_an_image_too_small_for_the_blocks_is_refused():
    with pytest.raises(InputError, match=r"ResNetCritic halving = 4: nothing is left of an image of 8x8 pixels"):
        shapes_of(ResNetCritic(width=2, halving=4), jnp.zeros((1, 8, 8, 1)))


def test_the_class_adds_its_projection():
    """Two labels differ by the product of the features, here the pixels, with the difference of their vectors."""
    critic, image = DenseCritic(widths=(), classes=4), np.random.default_rng(0).normal(size=(3, 2, 2, 1))
    one, two = np.array([0, 1, 2]), np.array([3, 3, 0])
    variables = critic.init(jax.random.key(0), image, one, train=False)
    found = [critic.apply(variables, image, label, train=False) for label in (one, two)]
    vectors = np.asarray(variables["params"]["Embed_0"]["embedding"])
    expected = np.sum((vectors[one] - vectors[two]) * image.reshape(3, 4), axis=1)
    np.testing.assert_allclose(found[0] - found[1], expected, rtol=1e-4, atol=1e-6)


def test_a_generator_hears_the_class_and_stays_in_range():
    generator = Generator(DenseDecoder(shape=(2, 2, 1), widths=()), 3)
    noise = jax.random.normal(jax.random.key(0), (4, 5))
    variables = generator.init(jax.random.key(1), noise, jnp.zeros(4, jnp.int32), train=False)
    images = [generator.apply(variables, noise, jnp.full(4, label), train=False) for label in (0, 1)]
    loud = generator.apply(variables, 10 * noise, jnp.zeros(4, jnp.int32), train=False)
    assert 0.99 < np.abs(loud).max() <= 1
    assert np.abs(images[0] - images[1]).max(axis=(1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize(("hidden", "sums"), [((), True), ((8,), False)])
def test_without_a_hidden_layer_a_logit_is_a_sum_over_places(hidden, sums):
    """What two corners change together is what each changes alone, unless a layer has seen both."""
    critic, (one, two) = ConvCritic(widths=(4, 4), hidden=hidden), np.zeros((2, 16, 16, 1), np.float32)
    one[:4, :4], two[-4:, -4:] = 1, 1
    images = np.stack([np.zeros_like(one), one, two, one + two])
    variables = critic.init(jax.random.key(0), images, train=False)
    nothing, first, second, both = critic.apply(variables, images, train=False)
    rest = both - first - second + nothing
    assert abs(rest) < 1e-6 if sums else abs(rest) > 1e-3 * abs(both)
