"""The networks: parameter counts known from elsewhere, types, and their arithmetic against numpy."""

import inspect
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from references import random_variables, shapes_of

from jaxrec import models
from jaxrec.errors import InputError

IMAGENET = {"width": 64, "stem": "large", "shortcut": "project", "classes": 1000}
CCT_SMALL = {"width": 128, "heads": 2, "mlp": 128, "convolutions": 2}
VGG_IMAGENET = {"hidden": (4096, 4096), "classes": 1000}
# Input times output channels of the paper's 5x5 convolutions.
WIDEST = 16 * 32 + 32 * 96 + 16 * 48 + 2 * 24 * 64 + 32 * 64 + 2 * 32 * 128 + 48 * 128
VIT_BLOCK = 2 * 2 * 192 + (192 * 576 + 576) + (192 * 192 + 192) + (192 * 768 + 768) + (768 * 192 + 192)


def compact_block(d: int, mlp: int) -> int:
    """Two norms, queries, keys and values without a bias, the attention's output, two dense layers."""
    return 2 * 2 * d + d * 3 * d + (d * d + d) + (d * mlp + mlp) + (mlp * d + d)


# Where a count is not worked out in its line, it is what that tutorial's own framework prints.
PARAMETERS = {
    "CNN": [
        # Conv32-pool-Conv64-pool-Dense64-Dense10 on 224x224x3, by hand: 222, 111, 109, 54 pixels a side remain.
        (
            {"widths": (32, 64), "hidden": (64,)},
            (224, 224, 3),
            (27 * 32 + 32) + (9 * 32 * 64 + 64) + (54 * 54 * 64 * 64 + 64) + (64 * 10 + 10),
        ),
        # TensorFlow's CIFAR-10 tutorial
        ({"widths": (32, 64, 64), "hidden": (64,), "pool_last": False}, (32, 32, 3), 122_570),
        # "Deep Learning with Python", chapter 5: the 3-convolution net on MNIST
        ({"widths": (32, 64, 64), "hidden": (64,), "pool_last": False}, (28, 28, 1), 93_322),
        # the same in its second edition, without the dense layer
        ({"widths": (32, 64, 64), "hidden": (), "pool_last": False}, (28, 28, 1), 61_514),
        # flax's MNIST example
        ({"widths": (32, 64), "hidden": (256,), "pool": "average", "padding": "SAME"}, (28, 28, 1), 824_458),
        # A norm has scale and offset and takes the convolution's bias away; a block is pooled once: 8 -> 4.
        (
            {"widths": ((4, 4),), "hidden": (), "padding": "SAME", "norm": "batch", "classes": 3},
            (8, 8, 1),
            (9 * 4 + 4 + 4) + (9 * 4 * 4 + 4 + 4) + (4 * 4 * 4 * 3 + 3),
        ),
    ],
    # The whitening filters are no parameters, and batch norm has no scale.
    "WhitenedCNN": [({}, (32, 32, 3), 24 + 9 * (24 * 64 + 64**2 + 64 * 256 + 3 * 256**2) + 2 * 64 + 4 * 256 + 2560)],
    "MLP": [({"widths": (512, 512)}, (28, 28, 1), (784 * 512 + 512) + (512 * 512 + 512) + (512 * 10 + 10))],
    "RNN": [
        # A gate sees the input, the last output and a bias; the GRU's candidate has a bias on both.
        ({"cell": "simple", "hidden": 100, "read": "pixels"}, (28, 28, 1), (100 + 100 * 100 + 100) + (100 * 10 + 10)),
        ({"cell": "lstm"}, (28, 28, 1), 4 * (28 * 128 + 128 * 128 + 128) + (128 * 10 + 10)),
        ({"cell": "gru"}, (28, 28, 1), 3 * (28 * 128 + 128 * 128 + 128) + 128 + (128 * 10 + 10)),
        (
            {"cell": "lstm", "layers": 2, "hidden": 8},
            (9, 7, 2),
            4 * (14 * 8 + 8 * 8 + 8) + 4 * (8 * 8 + 8 * 8 + 8) + (8 * 10 + 10),
        ),
        # Two directions: the second layer sees both, and so does the output.
        (
            {"cell": "gru", "layers": 2, "hidden": 8, "bidirectional": True},
            (9, 7, 2),
            2 * (3 * (14 * 8 + 8 * 8 + 8) + 8) + 2 * (3 * (16 * 8 + 8 * 8 + 8) + 8) + (16 * 10 + 10),
        ),
    ],
    "ResNet": [
        ({"blocks": (3, 3, 3)}, (32, 32, 3), 269_722),  # He et al. give 0.27 M, 0.46 M and 0.85 M.
        ({"blocks": (5, 5, 5)}, (32, 32, 3), 464_154),
        ({"blocks": (9, 9, 9)}, (32, 32, 3), 853_018),
        ({"blocks": (3, 3, 3), "shortcut": "project"}, (32, 32, 3), 269_722 + 18 * 32 + 34 * 64),  # option B
        # torchvision's resnet18, resnet34, resnet50
        (IMAGENET | {"blocks": (2, 2, 2, 2)}, (224, 224, 3), 11_689_512),
        (IMAGENET | {"blocks": (3, 4, 6, 3)}, (224, 224, 3), 21_797_672),
        (IMAGENET | {"blocks": (3, 4, 6, 3), "block": "bottleneck"}, (224, 224, 3), 25_557_032),
    ],
    "ViT": [
        # torchvision's vit_b_16
        (
            {"patch": 16, "width": 768, "depth": 12, "heads": 12, "mlp": 3072, "classes": 1000},
            (224, 224, 3),
            86_567_656,
        ),
        # without the extra token and its position
        ({"pool": "mean"}, (32, 32, 3), (48 * 192 + 192) + 64 * 192 + 6 * VIT_BLOCK + 2 * 192 + (192 * 10 + 10)),
        # without learned positions either
        (
            {"pool": "mean", "positions": "sincos"},
            (32, 32, 3),
            (48 * 192 + 192) + 6 * VIT_BLOCK + 2 * 192 + (192 * 10 + 10),
        ),
        # ViT-Lite-7/4: Hassani et al. give 3.717 M.
        (
            {"patch": 4, "width": 256, "depth": 7, "heads": 4, "mlp": 512, "qkv_bias": False},
            (32, 32, 3),
            (48 * 256 + 256) + 256 + 65 * 256 + 7 * compact_block(256, 512) + 2 * 256 + (256 * 10 + 10),
        ),
    ],
    "CCT": [
        # CCT-2/3x2, CCT-4/3x2, CCT-7/3x1: Hassani et al. give 0.284 M, 0.482 M, 3.760 M. The first in its parts:
        # convolutions, 8x8 positions, blocks, norm, pooling, output.
        (CCT_SMALL | {"depth": 2}, (32, 32, 3), 283_723),
        (
            CCT_SMALL | {"depth": 2, "positions": "sincos"},
            (32, 32, 3),
            (27 * 64 + 576 * 128) + 2 * compact_block(128, 128) + 2 * 128 + (128 + 1) + (128 * 10 + 10),
        ),
        (CCT_SMALL | {"depth": 4}, (32, 32, 3), 482_123),
        ({}, (32, 32, 3), 27 * 256 + 16**2 * 256 + 7 * compact_block(256, 512) + 2 * 256 + 257 + (256 * 10 + 10)),
        # CCT-14/7x2: convolutions and pools with a stride of 2 leave 14 x 14 tokens of 224 pixels.
        (
            {"kernel": 7, "convolutions": 2, "width": 384, "depth": 14, "heads": 6, "mlp": 1152, "classes": 1000},
            (224, 224, 3),
            (147 * 64 + 49 * 64 * 384) + 14**2 * 384 + 14 * compact_block(384, 1152) + 2 * 384 + 385 + 385_000,
        ),
    ],
    "LeNet5": [
        # 5x5 of 32x32 pixels remain; images of 28x28 are framed to 32x32.
        ({}, (32, 32, 1), 61_706),
        ({}, (28, 28, 1), 61_706),
    ],
    "AlexNet": [
        # torchvision's alexnet
        ({"stem": "large", "classes": 1000}, (224, 224, 3), 61_100_840),
        # 3x3 of 32x32 pixels remain, and the first kernel has 25 weights.
        (
            {},
            (32, 32, 3),
            (25 * 3 * 64 + 64)
            + (25 * 64 * 192 + 192)
            + (9 * 192 * 384 + 384)
            + (9 * 384 * 256 + 256)
            + (9 * 256 * 256 + 256)
            + (9 * 256 * 4096 + 4096)
            + (4096 * 4096 + 4096)
            + (4096 * 10 + 10),
        ),
    ],
    "VGG": [
        # torchvision's vgg11, 13, 16, 19, then with batch norm
        (VGG_IMAGENET | {"depth": 11, "norm": "none"}, (224, 224, 3), 132_863_336),
        (VGG_IMAGENET | {"depth": 13, "norm": "none"}, (224, 224, 3), 133_047_848),
        (VGG_IMAGENET | {"depth": 16, "norm": "none"}, (224, 224, 3), 138_357_544),
        (VGG_IMAGENET | {"depth": 19, "norm": "none"}, (224, 224, 3), 143_667_240),
        (VGG_IMAGENET | {"depth": 11}, (224, 224, 3), 132_868_840),
        (VGG_IMAGENET | {"depth": 13}, (224, 224, 3), 133_053_736),
        (VGG_IMAGENET | {"depth": 16}, (224, 224, 3), 138_365_992),
        (VGG_IMAGENET | {"depth": 19}, (224, 224, 3), 143_678_248),
        # pytorch-cifar's VGG16
        ({}, (32, 32, 3), 14_728_266),
    ],
    "GoogLeNet": [
        # torchvision's googlenet without auxiliary classifiers
        ({"stem": "large", "widest": "3x3", "classes": 1000}, (224, 224, 3), 6_624_904),
        # The paper's 5x5 has 16 weights more than torchvision's 3x3 in each of the nine modules.
        ({"stem": "large", "classes": 1000}, (224, 224, 3), 6_624_904 + 16 * WIDEST),
        # pytorch-cifar's GoogLeNet
        ({"widest": "3x3-3x3", "bias": True}, (32, 32, 3), 6_166_250),
    ],
    "PreActResNet": [
        # pytorch-cifar's PreActResNet18, and with the paper's norm after the last block
        ({"last_norm": False}, (32, 32, 3), 11_171_146),
        ({}, (32, 32, 3), 11_171_146 + 2 * 512),
    ],
    "WideResNet": [
        # The authors give 2.75 M and 36.5 M.
        ({"depth": 16, "widen": 4}, (32, 32, 3), 2_748_890),
        ({"depth": 28, "widen": 10}, (32, 32, 3), 36_479_194),
        ({"depth": 28, "widen": 10, "classes": 100}, (32, 32, 3), 36_479_194 + 90 * (640 + 1)),
    ],
    "DenseNet": [
        # L=100, k=12 of the authors' code; the paper gives 0.8 M, and 1.0 M for the plain L=40, k=12.
        ({}, (32, 32, 3), 769_162),
        (
            {"blocks": (12, 12, 12), "width": 16, "bottleneck": False, "compress": False},
            (32, 32, 3),
            1_019_722,
        ),
        # torchvision's densenet121, 169
        ({"blocks": (6, 12, 24, 16), "growth": 32, "stem": "large", "classes": 1000}, (224, 224, 3), 7_978_856),
        ({"blocks": (6, 12, 32, 32), "growth": 32, "stem": "large", "classes": 1000}, (224, 224, 3), 14_149_480),
    ],
}

CASES = [(name, *case) for name, cases in PARAMETERS.items() for case in cases]


def test_every_model_has_a_known_parameter_count():
    public = {
        name
        for name, value in vars(models).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and not name.startswith("_")
    }
    assert public == set(PARAMETERS)


@pytest.mark.parametrize(("name", "arguments", "image_shape", "count"), CASES)
def test_parameter_count(name, arguments, image_shape, count):
    logits, variables = shapes_of(getattr(models, name)(**arguments), image_shape)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == count
    assert logits.shape == (2, arguments.get("classes", 10))


def equations(jaxpr):
    """All equations of a jaxpr, those of the jaxprs inside it included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from equations(inner.jaxpr)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_types(norm, dtype):
    for pool, activation in itertools.product(["max", "average"], ["relu", "tanh", "sigmoid", "gelu"]):
        model = models.CNN(
            classes=5, widths=(4,), hidden=(3,), pool=pool, activation=activation, norm=norm, dtype=dtype
        )
        logits, variables = shapes_of(model, (8, 8, 1), train=True)
        assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        assert ("batch_stats" in variables) == (norm == "batch")

    def run(variables, image):
        return model.apply(variables, image, train=True, mutable=["batch_stats"])

    jaxpr = jax.make_jaxpr(run)(variables, jnp.zeros((2, 8, 8, 1))).jaxpr
    # What is measured is that half precision is really computed with, and that statistics are really not.
    types = {name: set() for name in ("conv_general_dilated", "dot_general", "tanh", "rsqrt")}
    for equation in equations(jaxpr):
        if equation.primitive.name in types:
            types[equation.primitive.name].add(equation.outvars[0].aval.dtype.name)
    assert types["conv_general_dilated"] == {dtype}
    assert types["dot_general"] == {dtype, "float32"}  # the hidden layer, the logits
    assert types["tanh"] == {dtype}  # inside gelu, after the norm
    assert types["rsqrt"] == (set() if norm == "none" else {"float32"})


NUMPY_ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    # Hendrycks and Gimpel's tanh approximation, flax's default
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


def numpy_convolution(x: np.ndarray, kernel: np.ndarray, padding: str) -> np.ndarray:
    side = kernel.shape[0]
    if padding == "SAME":
        before = (side - 1) // 2
        x = np.pad(x, ((0, 0), (before, side - 1 - before), (before, side - 1 - before), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))  # [B, H, W, C, side, side]
    return np.einsum("bhwcij,ijco->bhwo", windows, kernel)


def numpy_pool(x: np.ndarray, kind: str) -> np.ndarray:
    b, h, w, c = x.shape
    squares = x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)
    return squares.max((2, 4)) if kind == "max" else squares.mean((2, 4))


def numpy_cnn(model: models.CNN, variables, image: np.ndarray) -> np.ndarray:
    """The evaluation forward pass of a CNN, read from its docstring and its parameters' names alone."""
    params, statistics = variables["params"], variables.get("batch_stats", {})
    activation = NUMPY_ACTIVATIONS[model.activation]
    x, index = image.astype(np.float64), 0
    for position, block in enumerate(model.widths):
        for _ in [block] if isinstance(block, int) else block:
            layer = params[f"Conv_{index}"]
            x = numpy_convolution(x, layer["kernel"], model.padding) + layer.get("bias", 0)
            if model.norm == "batch":
                norm, running = params[f"BatchNorm_{index}"], statistics[f"BatchNorm_{index}"]
                x = (x - running["mean"]) / np.sqrt(running["var"] + 1e-5) * norm["scale"] + norm["bias"]
            elif model.norm == "group":
                norm = params[f"GroupNorm_{index}"]
                groups = {4: 4, 6: 6, 9: 3, 10: 5, 16: 8}[x.shape[-1]]  # the largest divisor up to 8
                grouped = x.reshape(*x.shape[:3], groups, -1)
                mean = grouped.mean((1, 2, 4), keepdims=True)
                deviation = np.sqrt(grouped.var((1, 2, 4), keepdims=True) + 1e-6)
                x = ((grouped - mean) / deviation).reshape(x.shape) * norm["scale"] + norm["bias"]
            x, index = activation(x), index + 1
        if model.pool_last or position < len(model.widths) - 1:
            x = numpy_pool(x, model.pool)
    x = x.reshape(len(x), -1)
    for layer in range(len(model.hidden)):
        x = activation(x @ params[f"Dense_{layer}"]["kernel"] + params[f"Dense_{layer}"]["bias"])
    last = params[f"Dense_{len(model.hidden)}"]
    return x @ last["kernel"] + last["bias"]


SAME_BLOCK = (4, 4)


@pytest.mark.parametrize(
    "arguments",
    [
        {"widths": (4, 6), "hidden": (5,), "pool_last": False},
        {"widths": (9, 10), "activation": "tanh", "pool": "average", "norm": "group", "padding": "SAME"},
        # One block given twice is still two blocks.
        {"widths": (SAME_BLOCK, SAME_BLOCK), "activation": "sigmoid", "norm": "batch", "padding": "SAME"}
        | {"pool_last": False, "hidden": ()},
        {"widths": (4,), "kernel": 2, "activation": "gelu", "pool": "average", "hidden": (6, 5)},
        {"widths": (16,), "kernel": 5, "norm": "group", "hidden": (), "classes": 3},
    ],
    ids=lambda arguments: "-".join(str(value) for value in arguments.values()),
)
def test_forward_pass_equals_numpy(arguments):
    model = models.CNN(**arguments)
    variables = random_variables(model, (9, 8, 2))
    image = np.random.default_rng(1).normal(size=(3, 9, 8, 2)).astype(np.float32)
    logits = jax.jit(lambda variables, image: model.apply(variables, image, train=False))(variables, image)
    np.testing.assert_allclose(logits, numpy_cnn(model, variables, image), rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_near_float32():
    image = np.random.default_rng(1).normal(size=(3, 8, 8, 1)).astype(np.float32)
    variables = random_variables(models.CNN(widths=(4,), norm="batch"), (8, 8, 1))
    half = models.CNN(widths=(4,), norm="batch", dtype="bfloat16").apply(variables, image, train=False)
    exact = numpy_cnn(models.CNN(widths=(4,), norm="batch"), variables, image)
    error = np.abs(half - exact).max() / np.abs(exact).max()
    assert 1e-5 < error < 0.03  # 8 bits of mantissa: some difference, and a small one


@pytest.mark.parametrize("hidden_layers", [0, 1])
def test_dropout_drops_before_each_dense_layer_in_training_alone(hidden_layers):
    pixels, kept = 64, 0.25 ** (hidden_layers + 1)
    model = models.CNN(classes=pixels, widths=(), hidden=(pixels,) * hidden_layers, dropout=0.75)
    identity = {"kernel": np.eye(pixels, dtype=np.float32), "bias": np.zeros(pixels, np.float32)}
    variables = {"params": {f"Dense_{layer}": identity for layer in range(hidden_layers + 1)}}
    image = np.ones((20, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(model.apply(variables, image, train=False), np.ones((20, pixels)))

    def trained(seed: int) -> np.ndarray:
        return np.asarray(model.apply(variables, image, train=True, rngs={"dropout": jax.random.key(seed)}))

    # With identities as layers the logits are the dropped-out pixels themselves: 0 or 1 / (share kept).
    assert set(np.unique(trained(0))) == {0, 1 / kept}
    # 1280 draws: 0.05 is four standard deviations and more.
    assert abs((trained(0) > 0).mean() - kept) < 0.05
    np.testing.assert_array_equal(trained(0), trained(0))
    assert (trained(0) != trained(1)).any()


def test_batch_norm_statistics_follow_their_closed_form():
    model = models.CNN(widths=(4,), hidden=(), norm="batch", pool_last=False)
    variables = random_variables(model, (5, 5, 2))
    image = np.random.default_rng(1).normal(2, 3, size=(6, 5, 5, 2)).astype(np.float32)
    logits, updated = model.apply(variables, image, train=True, mutable=["batch_stats"])
    features = numpy_convolution(image, variables["params"]["Conv_0"]["kernel"], "VALID")
    mean, variance = features.mean((0, 1, 2)), features.var((0, 1, 2))
    old, new = variables["batch_stats"]["BatchNorm_0"], updated["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new["var"], 0.9 * old["var"] + 0.1 * variance, rtol=1e-4, atol=1e-5)
    # Training normalises by the batch, whatever the running statistics are.
    by_batch = {"params": variables["params"], "batch_stats": {"BatchNorm_0": {"mean": mean, "var": variance}}}
    np.testing.assert_allclose(logits, numpy_cnn(model, by_batch, image), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("widths", [(4, 4, 4), (4, 4, 4, 4), ((4, 4, 4, 4, 4, 4),)], ids=str)
def test_an_image_too_small_for_the_network_is_refused(widths, norm):
    """Wherever in the network its last pixel goes: what follows would fail, or be a network that sees nothing."""
    with pytest.raises(InputError, match="nothing is left of an image of 8x8 pixels"):
        shapes_of(models.CNN(widths=widths, norm=norm), (8, 8, 1), train=True)


def test_pooling_away_the_last_pixel_is_refused_with_padding_too():
    shapes_of(models.CNN(widths=(4, 4, 4), padding="SAME"), (8, 8, 1))
    with pytest.raises(InputError, match="nothing is left of an image of 8x8 pixels"):
        shapes_of(models.CNN(widths=(4, 4, 4, 4), padding="SAME"), (8, 8, 1))
