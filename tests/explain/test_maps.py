"""Maps held against planted truth, against what they must be by hand, and against networks that know nothing."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from planted import NETWORKS, SIDE, learn, planted, share
from scipy import stats

from jaxrec import explain, models
from jaxrec.errors import InputError
from jaxrec.types import Array, PyTree

BASELINE = jnp.full((1, 1, 1, 1), 0.1)  # the mean of the noise
TEST = planted(64, seed=1)


@functools.cache
def learned(name: str) -> tuple[explain.Apply, PyTree]:
    """A network that has learned the planted truth, and its variables."""
    # The transformer learns at a higher rate.
    variables = learn(NETWORKS[name], planted(512), rate=1e-2 if name == "vit" else 3e-3)
    return functools.partial(NETWORKS[name].apply, variables, train=False), variables


@functools.cache
def program(name: str) -> Any:
    """Variables -> every map that needs the logits alone, before it loses its signs, [N, SIDE, SIDE]."""

    def maps(variables: PyTree) -> dict[str, Array]:
        apply, (image, label, _) = functools.partial(NETWORKS[name].apply, variables, train=False), TEST
        return {
            "smoothgrad": explain.smoothgrad(apply, image, label, jax.random.key(0))[..., 0],
            "integrated_gradients": explain.integrated_gradients(apply, image, label, BASELINE)[..., 0],
            "occlusion": explain.occlusion(apply, image, label, BASELINE, size=2, stride=2),
            "grad_cam": explain.grad_cam(apply, image, label),
        }

    return jax.jit(maps)


@functools.cache
def signed(name: str, *, random: bool = False) -> dict[str, Array]:
    variables = learned(name)[1]
    if random:
        variables = NETWORKS[name].init(jax.random.key(7), TEST.image, train=False)
    return program(name)(variables)


def heats(signed: dict[str, Array]) -> dict[str, Array]:
    """What a picture shows: of a gradient its size, of the others what speaks for the class."""
    gradients = ("smoothgrad", "integrated_gradients")
    return {
        name: explain.heat(value[..., None]) if name in gradients else jax.nn.relu(value)
        for name, value in signed.items()
    }


CELLS = pytest.param("cells", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["pooled", CELLS])
def test_the_network_has_learned_what_was_planted(name):
    apply, _ = learned(name)
    assert (apply(TEST.image).argmax(-1) == TEST.label).mean() == 1


@pytest.mark.parametrize(
    ("network", "method"),
    [
        ("pooled", "occlusion"),
        ("pooled", "integrated_gradients"),
        ("pooled", "grad_cam"),
        pytest.param("cells", "smoothgrad", marks=pytest.mark.slow),
        pytest.param("cells", "occlusion", marks=pytest.mark.slow),
        pytest.param("cells", "integrated_gradients", marks=pytest.mark.slow),
    ],
)
def test_four_fifths_of_a_map_lie_in_the_patch(network, method):
    """A patch is a quarter of the image, so by chance it would be 0.25."""
    assert share(heats(signed(network))[method], TEST.inside) > 0.8


@pytest.mark.slow
def test_four_fifths_of_what_a_transformer_attends_to_lie_in_the_patch():
    apply, variables = learned("vit")
    assert (apply(TEST.image).argmax(-1) == TEST.label).mean() > 0.95
    heat = explain.rollout(explain.attention_of(NETWORKS["vit"], variables, TEST.image), (SIDE, SIDE))
    assert share(heat, TEST.inside) > 0.8


def test_integrated_gradients_are_complete():
    apply, _ = learned("pooled")
    found = explain.integrated_gradients(apply, TEST.image, TEST.label, BASELINE, steps=256).sum((1, 2, 3))
    rows = jnp.arange(len(TEST.label)), TEST.label
    wanted = apply(TEST.image)[rows] - apply(jnp.broadcast_to(BASELINE, TEST.image.shape))[rows]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_grad_cam_is_cam_where_a_mean_and_one_dense_layer_follow():
    apply, variables = learned("pooled")
    params = variables["params"]

    def convolved(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    x = jax.nn.relu(convolved(TEST.image, params["Conv_0"]["kernel"]) - 1)
    x = jax.nn.relu(convolved(x, params["Conv_1"]["kernel"]) + params["Conv_1"]["bias"].reshape(1, 1, 1, -1))
    cam = jnp.einsum("bhwd,db->bhw", x, params["Dense_0"]["kernel"][:, TEST.label])
    found = explain.grad_cam(apply, TEST.image, TEST.label)
    np.testing.assert_allclose(found, jax.nn.relu(cam) / SIDE**2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["smoothgrad", "integrated_gradients", "occlusion", "grad_cam"])
def test_another_networks_map_is_another(method):
    """Adebayo et al. (2018): a map that stays what it is when the weights are random explains nothing."""
    assert correlation(signed("pooled")[method], signed("pooled", random=True)[method]) < 0.6


@pytest.mark.slow
def test_a_network_that_learned_random_labels_has_another_map():
    data = planted(64)
    wrong = data._replace(label=jnp.asarray(np.random.default_rng(0).permutation(data.label)))
    maps = program("pooled")(learn(NETWORKS["pooled"], wrong, steps=2000))
    for method, map_ in maps.items():
        assert correlation(signed("pooled")[method], map_) < 0.5, method


def correlation(a: Array, b: Array) -> float:
    """The mean rank correlation of two maps of the same images."""
    rows = zip(*(np.asarray(maps).reshape(len(maps), -1) for maps in (a, b)), strict=True)
    return float(np.mean([stats.spearmanr(*row).statistic for row in rows if min(map(np.ptp, row)) > 0]))


def test_the_answer_goes_and_comes_with_the_pixels_of_a_map():
    apply, _ = learned("pooled")

    @jax.jit
    def areas(heat: Array) -> list[Array]:
        options = {"image": TEST.image, "target": TEST.label, "heat": heat, "baseline": BASELINE, "steps": 8}
        return [explain.area(curve(apply, **options)).mean() for curve in (explain.deletion, explain.insertion)]

    falls, rises = areas(jax.random.uniform(jax.random.key(0), TEST.inside.shape))
    for method, heat in heats(signed("pooled")).items():
        deleted, inserted = areas(heat)
        assert deleted < falls, method
        assert inserted > rises, method


# By hand: a linear network, of which everything is known.
KERNEL = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 2, 3)).astype(np.float32))
IMAGE = jnp.asarray(np.random.default_rng(1).uniform(size=(2, 4, 4, 2)).astype(np.float32))
TARGET = jnp.array([2, 0])


def linear(image: Array) -> Array:
    return jnp.einsum("bhwc,hwck->bk", image, KERNEL)


def test_of_a_linear_network_all_gradients_are_its_kernel():
    kernel = KERNEL[..., TARGET].transpose(3, 0, 1, 2)
    np.testing.assert_allclose(explain.saliency(linear, IMAGE, TARGET), kernel, rtol=1e-5)
    smooth = explain.smoothgrad(linear, IMAGE, TARGET, jax.random.key(0), samples=3)
    np.testing.assert_allclose(smooth, kernel, rtol=1e-5)
    baseline = jnp.full((1, 1, 1, 2), 0.5)
    found = explain.integrated_gradients(linear, IMAGE, TARGET, baseline, steps=2)
    np.testing.assert_allclose(found, (IMAGE - 0.5) * kernel, rtol=1e-5)
    np.testing.assert_allclose(explain.heat(found), np.abs((IMAGE - 0.5) * kernel).sum(-1), rtol=1e-5)
    one = explain.occlusion(linear, IMAGE, TARGET, baseline, size=1)
    np.testing.assert_allclose(one, ((IMAGE - 0.5) * kernel).sum(-1), rtol=1e-3, atol=1e-5)


def test_the_last_squares_of_an_occlusion_end_at_the_edge():
    found = explain.occlusion(linear, IMAGE, TARGET, jnp.zeros((1, 1, 1, 1)), size=3, stride=2)
    parts = IMAGE * KERNEL[..., TARGET].transpose(3, 0, 1, 2)
    corner = parts[:, 1:, 1:].sum((1, 2, 3))
    np.testing.assert_allclose(found[:, 3, 3], corner, rtol=1e-4, atol=1e-5)  # one square alone lies on it
    with pytest.raises(InputError, match=r"occlusion size = 5: more than an image of 4x4"):
        explain.occlusion(linear, IMAGE, TARGET, jnp.zeros((1, 1, 1, 1)), size=5)


def test_a_curve_goes_from_the_image_to_the_baseline_and_back():
    heat = jnp.asarray(np.random.default_rng(2).permutation(32).reshape(2, 4, 4))
    zero = jnp.zeros((1, 1, 1, 1))
    options = {"steps": 16, "probabilities": lambda logits: logits}
    falls = explain.deletion(linear, IMAGE, TARGET, heat, zero, **options)
    rises = explain.insertion(linear, IMAGE, TARGET, heat, zero, **options)
    whole = linear(IMAGE)[jnp.arange(2), TARGET]
    np.testing.assert_allclose(falls + rises, whole[:, None].repeat(17, 1), rtol=1e-4, atol=1e-4)
    hottest = np.unravel_index(int(heat[0].argmax()), (4, 4))
    first = (IMAGE[0][hottest] * KERNEL[hottest][:, TARGET[0]]).sum()
    np.testing.assert_allclose(rises[0, :2], [0, first], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(explain.area(jnp.array([[0.0, 1.0, 1.0]])), [0.75])


def test_what_an_image_gets_its_batch_has_no_part_in():
    apply, _ = learned("pooled")
    alone = explain.smoothgrad(apply, TEST.image[3:4], TEST.label[3:4], jax.random.key(0))
    np.testing.assert_allclose(alone[0, ..., 0], signed("pooled")["smoothgrad"][3], rtol=1e-3, atol=1e-5)


def test_rollout_by_hand():
    """Two blocks on two by two patches and an extra token, which alone is classified."""
    weights = np.random.default_rng(0).dirichlet(np.ones(5), (2, 1, 3, 5)).astype(np.float32)
    mixed = [(block.mean(1)[0] + np.eye(5)) / 2 for block in weights]
    wanted = (mixed[1] @ mixed[0])[0, 1:].reshape(2, 2).repeat(3, 0).repeat(3, 1)
    attention = explain.Attention(list(map(jnp.asarray, weights)), jnp.eye(5)[:1])
    np.testing.assert_allclose(explain.rollout(attention, (6, 6))[0], wanted, rtol=1e-5)
    with pytest.raises(InputError, match=r"5 tokens are no grid over an image of 1x9"):
        explain.rollout(explain.Attention([], jnp.ones((1, 5))), (1, 9))


@pytest.mark.parametrize(
    ("network", "grid"),
    [
        (models.CNN(widths=(4, 8), hidden=(8,), padding="SAME"), (4, 4)),
        (models.ResNet(blocks=(1, 1), width=4), (8, 8)),
        (models.DenseNet(blocks=(1, 1), growth=4), (8, 8)),
        (models.CCT(width=8, depth=1, heads=1, mlp=8), (8, 8)),
        (models.WhitenedCNN(widths=(4, 4)), (3, 3)),
        (models.ViT(patch=4, width=8, depth=1, heads=2, mlp=8), None),
        (models.MLP(widths=(8,)), None),
        (models.RNN(hidden=4), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_last_feature_map_is_found(network, grid):
    image = jnp.zeros((1, 16, 16, 3))
    variables = jax.eval_shape(functools.partial(network.init, train=False), jax.random.key(0), image)

    def shapes(variables: PyTree, image: Array) -> Any:
        found.extend(explain.feature_maps(jax.jit(lambda image: network.apply(variables, image, train=False)), image))

    found: list = []
    jax.eval_shape(shapes, variables, image)
    assert (found[-1][1].shape[1:3] if found else None) == grid


def test_a_layer_has_a_name_and_a_wrong_one_is_refused():
    apply, _ = learned("pooled")
    named = explain.with_layer_names(apply)
    assert [name for name, _ in explain.feature_maps(named, TEST.image) if name] == ["Conv_0", "Conv_1"]
    first = explain.grad_cam(named, TEST.image, TEST.label, layer="Conv_0")
    assert not np.allclose(first, explain.grad_cam(named, TEST.image, TEST.label))
    with pytest.raises(InputError, match=r"layer = 'Conv_2' gives no feature map. Did you mean 'Conv_1'\? These do"):
        explain.grad_cam(named, TEST.image, TEST.label, layer="Conv_2")
    with pytest.raises(InputError, match="this network has no feature map"):
        explain.grad_cam(linear, IMAGE, TARGET)


def test_a_network_without_attention_is_refused():
    _, variables = learned("pooled")
    with pytest.raises(InputError, match="Pooled has no attention"):
        explain.attention_of(NETWORKS["pooled"], variables, TEST.image)


def test_what_was_read_after_the_last_row_is_the_answer():
    network, image = models.RNN(classes=3, hidden=4), jnp.asarray(TEST.image[:2, :2])
    variables = network.init(jax.random.key(0), image, train=False)
    apply = functools.partial(network.apply, variables, train=False)
    found = explain.row_by_row(apply, image)
    assert found.shape == (2, 2, 3)
    np.testing.assert_allclose(found[:, -1], apply(image), rtol=1e-5)
    np.testing.assert_allclose(found[:, 0], apply(image[:, :1]), rtol=1e-5)


def test_the_nearest_and_the_worst():
    which, cosines = explain.nearest(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0], [3.0, 0.1], [1.0, 1.0]]), 2)
    assert which.tolist() == [[1, 2]]
    np.testing.assert_allclose(cosines, [[3 / np.hypot(3, 0.1), np.sqrt(0.5)]], rtol=1e-5)
    with pytest.raises(InputError, match="there are 1 to look among"):
        explain.nearest(jnp.ones((1, 2)), jnp.ones((1, 2)), 2)
    errors = explain.squared_errors(lambda image: image + jnp.array([1.0, 2.0]).reshape(1, 1, 1, 2), IMAGE)
    np.testing.assert_allclose(errors, jnp.full((2, 4, 4), 5.0), rtol=1e-5)
