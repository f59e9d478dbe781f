"""Layers against flax.linen: values, gradients, gradients of gradients, and every way JAX transforms a function."""

import functools
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec import layers, models


def assert_close(ours, theirs, rtol: float = 1e-5) -> None:
    """Each array equals its counterpart to `rtol` of that array's largest value."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(initial=0), 1e-30))


def first_order(f: Callable, *arguments):
    """(f, and a random cotangent pulled back), so that a gradient sent to the wrong place shows."""
    cotangent = np.random.default_rng(1).normal(size=jax.eval_shape(f, *arguments).shape)

    @jax.jit
    def run(*arguments):
        y, pull_back = jax.vjp(f, *arguments)
        return y, pull_back(cotangent.astype(y.dtype))

    return run(*arguments)


def second_order(f: Callable, *arguments):
    """The gradient of a gradient penalty, and a Hessian-vector product, which runs forward over reverse."""

    def penalty(*arguments):
        slopes = jax.grad(lambda *arguments: jnp.tanh(f(*arguments)).sum(), 0)(*arguments)
        return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(slopes))

    gradient = jax.grad(lambda *arguments: jnp.tanh(f(*arguments)).sum(), tuple(range(len(arguments))))
    directions = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), arguments)

    @jax.jit
    def run(arguments, directions):
        product = jax.jvp(gradient, arguments, directions)[1]
        return jax.grad(penalty, tuple(range(len(arguments))))(*arguments), product

    return run(arguments, directions)


@pytest.fixture(scope="module")
def images(digits) -> np.ndarray:
    """Eight real images [8, 17, 18, 5], enlarged: flat areas, where neighbours tie, and odd sizes."""
    enlarged = digits.image[:40].astype(np.float32).repeat(2, 1).repeat(2, 2).reshape(8, 5, 16, 16) / 255
    return np.pad(enlarged.transpose(0, 2, 3, 1), ((0, 0), (0, 1), (1, 1), (0, 0)), mode="edge")


# Convolution. The sizes reach every form: few channels, few pixels, 32 channels and more, gradients larger than images.
WIDE = (2, 14, 15, 32)
CONVOLUTIONS = [
    ((8, 17, 18, 5), {}),
    ((8, 17, 18, 5), {"padding": "VALID", "kernel_size": (5, 4)}),
    ((8, 17, 18, 5), {"strides": 2}),
    ((8, 17, 18, 5), {"strides": (2, 3), "padding": "VALID", "kernel_size": (4, 2)}),
    ((8, 17, 18, 5), {"padding": 3}),
    ((8, 17, 18, 5), {"padding": 9, "strides": 2}),
    ((8, 17, 18, 5), {"padding": ((0, 2), (1, 0)), "use_bias": False}),
    ((8, 17, 18, 5), {"kernel_size": (1, 1), "strides": 2}),
    ((8, 17, 18, 2), {}),
    ((8, 17, 18, 1), {"strides": 2, "kernel_size": (4, 4)}),
    ((8, 6, 5, 5), {"padding": "VALID", "strides": (1, 2)}),
    ((8, 2, 2, 5), {"kernel_size": (5, 5)}),
    (WIDE, {"features": 33, "padding": "VALID"}),
    (WIDE, {"features": 32, "padding": ((2, 1), (0, 1))}),
    (WIDE, {"features": 32, "kernel_size": (2, 3), "use_bias": False}),
    ((3, 13, 18, 32), {"features": 32, "kernel_size": (3, 4)}),
    ((3, 6, 7, 64), {"features": 65}),
    # flax's own
    ((8, 17, 18, 4), {"feature_group_count": 2}),
    ((8, 17, 18, 5), {"kernel_dilation": 2}),
    ((8, 17, 18, 5), {"input_dilation": (2, 1), "padding": 1}),
    ((8, 17, 18, 5), {"padding": "CIRCULAR"}),
    ((8, 17, 18, 5), {"mask": np.tri(9, 30, 12, np.float32).reshape(3, 3, 5, 6)}),
    ((8, 17, 5), {"kernel_size": (3,), "padding": "CAUSAL"}),
    ((2, 5, 6, 7, 3), {"kernel_size": (3, 2, 3)}),
]
TRANSPOSED = [
    ((8, 7, 6, 5), {"kernel_size": (4, 4), "strides": (2, 2)}),
    ((8, 7, 6, 5), {"kernel_size": (5, 5), "strides": (2, 2), "transpose_kernel": True}),
    ((8, 7, 6, 5), {"kernel_size": (3, 4), "strides": (2, 2), "padding": "VALID"}),
    ((8, 7, 6, 5), {"kernel_size": (2, 2), "strides": (3, 3)}),
    ((8, 7, 6, 5), {"kernel_size": (2, 1), "strides": (3, 3), "padding": "VALID", "use_bias": False}),
    ((8, 7, 6, 5), {"kernel_size": (4, 4), "strides": (2, 2), "padding": ((1, 2), (3, 0))}),
    ((8, 7, 6, 5), {"kernel_size": (3, 3)}),
    ((8, 7, 6, 5), {"kernel_size": (3, 3), "transpose_kernel": True, "padding": "VALID"}),
    ((8, 7, 6, 5), {"kernel_size": (5, 4), "strides": (2, 1)}),
    ((8, 7, 6, 5), {"kernel_size": (3, 3), "strides": (2, 2), "padding": ((-3, -1), (-2, 0))}),
    ((8, 7, 6, 5), {"kernel_size": (3, 3), "strides": (2, 2), "padding": 5}),
    # flax's own
    ((8, 7, 6, 5), {"kernel_size": (3, 3), "kernel_dilation": (2, 2)}),
    ((8, 7, 6, 5), {"kernel_size": (4, 4), "strides": (2, 2), "padding": "CIRCULAR"}),
    ((8, 7, 5), {"kernel_size": (3,), "strides": (2,)}),
]


def name_of(case) -> str:
    return re.sub(r"[^\w,.()=]", "", str(case)[:60])


def both_modules(kind: str, images: np.ndarray, shape: tuple[int, ...], options: dict):
    """((jaxrec's module, flax's), params, image): the same random parameters for both, a real image of that shape."""
    options = {"features": 6, "kernel_size": (3, 3), **options}
    x = jnp.asarray(np.resize(images, shape))
    ours, flax = getattr(layers, kind)(**options), getattr(nn, kind)(**options)
    shapes = jax.eval_shape(flax.init, jax.random.key(0), x)
    assert jax.eval_shape(ours.init, jax.random.key(0), x) == shapes
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape).astype(leaf.dtype) / 10), shapes)
    return (ours, flax), params, x


@pytest.mark.parametrize(("shape", "options"), CONVOLUTIONS, ids=name_of)
def test_conv_equals_flax(images, shape, options):
    modules, params, x = both_modules("Conv", images, shape, options)
    assert_close(*(first_order(module.apply, params, x) for module in modules))


@pytest.mark.parametrize(("shape", "options"), TRANSPOSED, ids=name_of)
def test_conv_transpose_equals_flax(images, shape, options):
    modules, params, x = both_modules("ConvTranspose", images, shape, options)
    assert_close(*(first_order(module.apply, params, x) for module in modules))


@pytest.mark.parametrize(
    ("kind", "shape", "options"),
    [
        ("Conv", (2, 9, 8, 5), {"strides": 2}),
        ("Conv", (2, 9, 8, 3), {}),
        ("Conv", WIDE, {"features": 32}),
        ("ConvTranspose", (2, 5, 4, 5), {"kernel_size": (4, 4), "strides": (2, 2)}),
    ],
    ids=name_of,
)
def test_second_derivatives_of_convolutions_equal_flax(images, kind, shape, options):
    modules, params, x = both_modules(kind, images, shape, options)
    assert_close(*(second_order(lambda x, p, module=module: module.apply(p, x), x, params) for module in modules))


@settings(max_examples=8)  # each example compiles
@given(
    size=st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 12), st.integers(1, 6)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    padding=st.sampled_from(["SAME", "VALID", 1, 2]),
    kind=st.sampled_from(["Conv", "ConvTranspose"]),
)
def test_any_convolution_equals_flax(size, kernel, stride, padding, kind):
    options = {"kernel_size": kernel, "strides": (stride, stride), "padding": padding, "features": 3}
    image = np.random.default_rng(0).normal(size=size).astype(np.float32)
    modules, params, x = both_modules(kind, image, size, options)
    assert_close(*(first_order(module.apply, params, x) for module in modules))


# Pooling


def both_pools(window: tuple[int, int], strides=None, padding="VALID") -> list[Callable]:
    arguments = {"window_shape": window, "strides": strides or window, "padding": padding}
    return [functools.partial(pool, **arguments) for pool in (layers.max_pool, nn.max_pool)]


POOLS = [
    ((2, 2), None, "VALID"),
    ((3, 3), None, "VALID"),
    ((2, 4), None, "VALID"),
    ((1, 2), None, "SAME"),
    # XLA's own
    ((2, 2), None, "SAME"),
    ((3, 3), (2, 2), "SAME"),
    ((2, 2), (1, 1), "VALID"),
    ((2, 2), None, ((1, 0), (0, 1))),
]


@pytest.mark.parametrize("pool", POOLS, ids=name_of)
def test_max_pool_equals_flax_on_real_images(images, pool):
    assert (images[:, ::2, 1:-1:2] == images[:, ::2, 2::2]).mean() > 0.5  # they tie, which is what this test is for
    ours, flax = both_pools(*pool)
    # Both only move numbers: equal to the bit, but where windows overlap and gradients add up.
    assert_close(first_order(ours, images), first_order(flax, images), rtol=0)


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
def test_second_derivatives_of_max_pool_equal_flax(tied):
    rng = np.random.default_rng(0)
    x = (rng.integers(0, 3, (2, 5, 6, 2)) if tied else rng.normal(size=(2, 5, 6, 2))).astype(np.float32)
    ours, flax = both_pools((2, 2))
    assert_close(second_order(ours, x), second_order(flax, x))


@settings(max_examples=8)  # each example compiles
@given(
    size=st.tuples(st.integers(1, 2), st.integers(1, 8), st.integers(1, 8), st.integers(1, 3)),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["SAME", "VALID"]),
    levels=st.sampled_from([1, 3, 1000]),
)
def test_any_max_pool_equals_flax(size, window, padding, levels):
    x = np.random.default_rng(0).integers(0, levels, size).astype(np.float32)
    ours, flax = both_pools(window, padding=padding)
    assert_close(first_order(ours, x), first_order(flax, x), rtol=0)


def test_a_flat_square_sends_its_gradient_to_its_first_pixel_alone():
    gradient = jax.grad(lambda x: layers.max_pool(x, (2, 2), (2, 2)).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0]])


def test_max_pool_of_one_image_of_integers_and_of_nan():
    x = np.arange(24, dtype=np.float32).reshape(4, 6, 1)
    np.testing.assert_array_equal(layers.max_pool(x, (2, 3), (2, 3))[..., 0], [[8, 11], [20, 23]])
    assert layers.max_pool(jnp.asarray(x, jnp.bfloat16), (2, 2), [2, 2]).dtype == jnp.bfloat16
    x[1, 1] = np.nan
    np.testing.assert_array_equal(np.isnan(layers.max_pool(x, (2, 3), (2, 3))[..., 0]), [[True, False], [False, False]])


def test_avg_pool_is_the_mean_of_each_window(images):
    values, (gradient,) = first_order(lambda x: layers.avg_pool(x, (2, 3), (2, 3)), images)
    squares = images[:, :16].reshape(8, 8, 2, 6, 3, 5)
    assert_close(values, squares.mean((2, 4)))
    cotangent = np.random.default_rng(1).normal(size=values.shape).astype(np.float32)
    assert_close(gradient[:, :16], cotangent.repeat(2, 1).repeat(3, 2) / 6)


# Transformations: a step with a layer of each kind


def network(library) -> Callable:
    """loss(params, image [B, 16, 16, 2]) of a small network, made of jaxrec's layers or of flax's."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = library.Conv(8, (3, 3))(x)
            x = nn.relu(library.max_pool(x, (2, 2), (2, 2)))
            x = nn.tanh(library.Conv(32, (3, 3), strides=2)(x))
            x = nn.tanh(library.ConvTranspose(32, (4, 4), (2, 2))(x))
            x = nn.tanh(library.ConvTranspose(32, (4, 4), (2, 2))(x))
            x = library.Conv(32, (3, 3))(x)
            return library.avg_pool(x, (4, 4), (4, 4))

    def loss(params, image):
        return jnp.square(Network().apply(params, image) - 0.1).mean()

    loss.init = Network().init
    return loss


@pytest.fixture(scope="module")
def step_inputs(images):
    x = jnp.asarray(images[:, :16, :16, :2])
    return jax.jit(network(nn).init)(jax.random.key(0), x), x


@pytest.fixture(scope="module")
def expected(step_inputs):
    return jax.jit(jax.value_and_grad(network(nn)))(*step_inputs)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: jax.jit(jax.value_and_grad(f)),
        lambda f: jax.value_and_grad(jax.jit(f)),
        lambda f: jax.jit(jax.value_and_grad(jax.checkpoint(f))),
    ],
    ids=["jit of grad", "grad of jit", "remat"],
)
def test_step_equals_flax(step_inputs, expected, transform):
    assert_close(transform(network(layers))(*step_inputs), expected)


def test_layers_run_one_operation_at_a_time():
    x = np.random.default_rng(0).integers(0, 3, (1, 4, 4, 5)).astype(np.float32)
    ours, flax = both_pools((2, 2))
    assert_close(*(jax.grad(lambda x, pool=pool: jnp.square(pool(x)).sum())(x) for pool in (ours, flax)), rtol=0)
    kernel = {"params": {"kernel": np.ones((2, 2, 5, 3), np.float32)}}
    modules = [module.Conv(3, (2, 2), use_bias=False) for module in (layers, nn)]
    assert_close(*(jax.grad(lambda x, m=m: jnp.square(m.apply(kernel, x)).sum())(x) for m in modules))


@pytest.mark.parametrize("axes", [(None, 0), (0, 0)], ids=str)
def test_step_under_vmap(step_inputs, axes):
    params, x = step_inputs
    params = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 0.9]), params) if axes[0] == 0 else params
    x = x.reshape(2, 4, *x.shape[1:]) if axes[1] == 0 else x
    run = [jax.jit(jax.vmap(jax.value_and_grad(network(library)), axes))(params, x) for library in (layers, nn)]
    assert_close(*run)


def canonical(program: str) -> bool:
    """Whether every convolution of a compiled program has the dimension labels that XLA's CPU kernels know."""
    labels = re.findall(r"dim_labels=(\S+?)[,\s]", program)
    assert labels
    return {*labels} == {"b01f_01io->b01f"}


def test_steps_in_a_scan_have_fast_gradients(step_inputs):
    params, x = step_inputs

    def steps(library):
        def step(params, _):
            value, slopes = jax.value_and_grad(network(library))(params, x)
            return jax.tree.map(lambda leaf, slope: leaf - 0.1 * slope, params, slopes), value

        return jax.jit(lambda params: jax.lax.scan(step, params, None, length=3)).lower(params).compile()

    ours, flax = steps(layers), steps(nn)
    assert_close(ours(params), flax(params))
    assert canonical(ours.as_text())
    assert not canonical(flax.as_text())  # if this fails, XLA has learnt it, and `_canonical` is not needed


def test_step_on_eight_devices(step_inputs, expected, eight_devices):
    params, x = eight_devices.everywhere(step_inputs[0]), eight_devices.split(step_inputs[1])
    program = jax.jit(jax.value_and_grad(network(layers)), out_shardings=eight_devices.whole).lower(params, x).compile()
    assert_close(program(params, x), expected)
    assert "all-reduce" in program.as_text()
    assert "all-gather" not in program.as_text()  # images stay where they are


def test_bfloat16_stays_bfloat16_and_is_as_exact_as_in_flax(images):
    for kind, options in [("Conv", {"features": 32}), ("ConvTranspose", {"strides": (2, 2)})]:
        modules, params, x = both_modules(kind, images, (8, 14, 14, 32), options)
        exact = first_order(modules[1].apply, params, x)
        errors = []
        for module in modules:
            half = first_order(module.clone(dtype=jnp.bfloat16).apply, params, x)
            assert half[0].dtype == jnp.bfloat16
            assert half[1][0]["params"]["kernel"].dtype == jnp.float32  # parameters and their gradients stay float32
            distance = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max() / jnp.abs(b).max()), half, exact)
            errors.append(np.array(jax.tree.leaves(distance)))
        assert (errors[0] <= 1.5 * errors[1] + 0.01).all(), errors


# The choice of the form


def program_of(function: Callable, platform: str, *arguments) -> str:
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def test_other_platforms_get_the_operations_of_xla(step_inputs):
    gradient = [jax.grad(network(library)) for library in (layers, nn)]

    def operations(function, platform):
        program = program_of(function, platform, *step_inputs)
        names = re.findall(r"stablehlo\.(convolution|dot_general|select_and_scatter|reduce_window)", program)
        return sorted(names)

    for platform in ("cuda", "tpu"):
        assert operations(gradient[0], platform) == operations(gradient[1], platform)
    ours = operations(gradient[0], "cpu")
    assert "dot_general" in ours
    assert "select_and_scatter" not in ours


def test_plain_switches_to_xla_even_after_compiling(step_inputs):
    gradient = jax.jit(jax.grad(network(layers)))
    fast = gradient.lower(*step_inputs).as_text()
    with layers.plain():
        assert gradient.lower(*step_inputs).as_text().count("select_and_scatter") == 1
    assert gradient.lower(*step_inputs).as_text() == fast
    assert "select_and_scatter" not in fast


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_cnn_that_pools_before_bias_and_activation_is_the_textbook_network(images, activation):
    class Textbook(nn.Module):
        @nn.compact
        def __call__(self, x):
            for width in (6, 7):
                x = models.cnn.ACTIVATIONS[activation](nn.Conv(width, (3, 3), padding="VALID")(x))
                x = nn.max_pool(x, (2, 2), (2, 2))
            return nn.Dense(10)(x.reshape(x.shape[0], -1))

    cnn = models.CNN(widths=(6, 7), hidden=(), activation=activation)
    shapes = jax.eval_shape(Textbook().init, jax.random.key(0), images)
    assert jax.eval_shape(functools.partial(cnn.init, train=False), jax.random.key(0), images) == shapes
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 10, jnp.float32), shapes)
    ours = first_order(lambda p: cnn.apply(p, images, train=True), params)
    assert_close(ours, first_order(lambda p: Textbook().apply(p, images), params))
