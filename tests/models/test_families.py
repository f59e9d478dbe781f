"""MLP, RNN, ResNet and ViT: their arithmetic against the papers' equations in numpy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from references import random_variables
from test_models import NUMPY_ACTIVATIONS, equations, numpy_convolution

from jaxrec import models
from jaxrec.errors import InputError


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def double(tree):
    """The references compute in float64, so that what differs is the model's rounding alone."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def dense(params, name: str, x: np.ndarray) -> np.ndarray:
    return x @ params[name]["kernel"] + params[name]["bias"]


@functools.partial(jax.jit, static_argnums=0)
def evaluate(model: nn.Module, variables, image):
    """Logits without a key: an evaluation that drew anything at random would raise."""
    return model.apply(variables, image, train=False)


@functools.partial(jax.jit, static_argnums=0)
def train(model: nn.Module, variables, image, seed: int = 0):
    """Logits and what training updates, with random numbers."""
    return model.apply(variables, image, train=True, rngs={"dropout": jax.random.key(seed)}, mutable=["batch_stats"])


def numpy_mlp(model: models.MLP, variables, image: np.ndarray) -> np.ndarray:
    params, x = double(variables["params"]), double(image).reshape(len(image), -1)
    for layer in range(len(model.widths)):
        x = NUMPY_ACTIVATIONS[model.activation](dense(params, f"Dense_{layer}", x))
    return dense(params, f"Dense_{len(model.widths)}", x)


SIGMOID = NUMPY_ACTIVATIONS["sigmoid"]


def elman(p, x, h, c):
    """Elman (1990): h' = tanh(W x + U h + b)."""
    return np.tanh(x @ p["input"] + p["bias"] + h @ p["recurrent"]), c


def lstm(p, x, h, c):
    """Hochreiter and Schmidhuber (1997) with Gers's forget gate: c' = f c + i g, h' = o tanh(c')."""
    i, f, g, o = np.split(x @ p["input"] + p["bias"] + h @ p["recurrent"], 4, axis=-1)
    c = SIGMOID(f) * c + SIGMOID(i) * np.tanh(g)
    return SIGMOID(o) * np.tanh(c), c


def gru(p, x, h, c):
    """Cho et al. (2014), the reset gate after the product as in cuDNN: h' = z h + (1 - z) n."""
    (xr, xz, xn), (hr, hz, hn) = (
        np.split(product, 3, axis=-1) for product in (x @ p["input"] + p["bias"], h @ p["recurrent"])
    )
    z = SIGMOID(xz + hz)
    n = np.tanh(xn + SIGMOID(xr + hr) * (hn + p["candidate_bias"]))
    return z * h + (1 - z) * n, c


CELLS = {"simple": elman, "lstm": lstm, "gru": gru}


def numpy_rnn(model: models.RNN, variables, image: np.ndarray) -> np.ndarray:
    params, image, step = double(variables["params"]), double(image), CELLS[model.cell]
    _, height, width, _ = image.shape
    if model.read == "rows":
        sequence = [image[:, row].reshape(len(image), -1) for row in range(height)]
    else:
        sequence = [image[:, row, column] for row in range(height) for column in range(width)]
    for layer in range(model.layers):
        h = c = np.zeros((len(image), model.hidden))
        for time, x in enumerate(sequence):
            h, c = step(params[f"forward_{layer}"], x, h, c)
            sequence[time] = h
    return dense(params, "Dense_0", sequence[-1])


def numpy_resnet(model: models.ResNet, variables, image: np.ndarray) -> np.ndarray:
    """The evaluation forward pass; parameters are numbered along a block's main path, its projection last."""
    params, statistics = double(variables["params"]), double(variables["batch_stats"])
    number, relu = itertools.count(), NUMPY_ACTIVATIONS["relu"]

    def conv_norm(x: np.ndarray, stride: int = 1) -> np.ndarray:
        n = next(number)
        norm, running = params[f"BatchNorm_{n}"], statistics[f"BatchNorm_{n}"]
        # Padding of side // 2 all round; a stride skips places where the kernel is put.
        x = numpy_convolution(x, params[f"Conv_{n}"]["kernel"], "SAME")[:, ::stride, ::stride]
        return (x - running["mean"]) / np.sqrt(running["var"] + 1e-5) * norm["scale"] + norm["bias"]

    x = relu(conv_norm(double(image), 1 if model.stem == "small" else 2))
    if model.stem == "large":
        x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2].max((-2, -1))
    for stage, count in enumerate(model.blocks):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            if model.block == "basic":
                y = conv_norm(relu(conv_norm(x, stride)))
            else:
                y = conv_norm(relu(conv_norm(relu(conv_norm(x)), stride)))
            more = y.shape[-1] - x.shape[-1]
            if (stride, more) == (1, 0):
                shortcut = x
            elif model.shortcut == "project":
                shortcut = conv_norm(x, stride)
            else:
                shortcut = np.zeros_like(y)
                shortcut[..., more // 2 : more // 2 + x.shape[-1]] = x[:, ::stride, ::stride]
            x = relu(y + shortcut)
    assert next(number) == len(statistics)  # every parameter was used
    return dense(params, "Dense_0", x.mean((1, 2)))


def numpy_vit(model: models.ViT, variables, image: np.ndarray) -> np.ndarray:
    params, image, side = double(variables["params"]), double(image), model.patch
    corners = itertools.product(range(0, image.shape[1], side), range(0, image.shape[2], side))
    patches = [image[:, top : top + side, left : left + side].reshape(len(image), -1) for top, left in corners]
    x = dense(params, "embedding", np.stack(patches, axis=1))
    if model.pool == "cls":
        x = np.concatenate([np.repeat(params["cls"], len(x), axis=0), x], axis=1)
    x = x + params["positions"]

    def norm(p, x: np.ndarray) -> np.ndarray:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]

    d = model.width // model.heads
    for p in (params[f"block_{index}"] for index in range(model.depth)):
        qkv = dense(p, "Dense_0", norm(p["LayerNorm_0"], x))
        q, k, v = qkv[..., : model.width], qkv[..., model.width : 2 * model.width], qkv[..., 2 * model.width :]
        heads = []
        for head in range(model.heads):
            own = slice(head * d, (head + 1) * d)
            weights = np.exp(np.einsum("btd,bsd->bts", q[..., own], k[..., own]) / np.sqrt(d))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[..., own])
        x = x + dense(p, "Dense_1", np.concatenate(heads, axis=-1))
        x = x + dense(p, "Dense_3", NUMPY_ACTIVATIONS["gelu"](dense(p, "Dense_2", norm(p["LayerNorm_1"], x))))
    x = norm(params["LayerNorm_0"], x)
    return dense(params, "Dense_0", x[:, 0] if model.pool == "cls" else x.mean(1))


NUMPY = {"MLP": numpy_mlp, "RNN": numpy_rnn, "ResNet": numpy_resnet, "ViT": numpy_vit}

FORWARD = [
    ("MLP", {"widths": (6, 5), "activation": "relu"}, (8, 7, 2)),
    ("MLP", {"widths": (6,), "activation": "gelu"}, (8, 8, 1)),
    *[
        ("RNN", {"cell": cell, "read": read, "hidden": 5, "layers": 2}, (6, 5, 2))
        for cell, read in itertools.product(CELLS, ["rows", "pixels"])
    ],
    ("ViT", {"patch": 4, "width": 6, "heads": 2, "mlp": 7, "depth": 2, "pool": "cls"}, (8, 12, 2)),
    ("ViT", {"patch": 3, "width": 6, "heads": 3, "mlp": 5, "depth": 1, "pool": "mean"}, (9, 6, 1)),
    # Odd sides halve upwards, 9 -> 5, and an odd number of added channels, 3 -> 6, has no middle.
    ("ResNet", {"blocks": (1, 1), "width": 3}, (9, 9, 2)),
    ("ResNet", {"blocks": (1, 2), "width": 2, "shortcut": "project", "stem": "large"}, (16, 13, 2)),
    ("ResNet", {"blocks": (1, 1), "width": 2, "shortcut": "project", "block": "bottleneck"}, (9, 8, 1)),
    ("ResNet", {"blocks": (1,), "width": 2, "block": "bottleneck"}, (8, 8, 1)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), FORWARD, ids=str)
def test_forward_pass_equals_numpy(name, arguments, shape):
    model = getattr(models, name)(classes=3, **arguments)
    variables = random_variables(model, shape)
    image = images(2, *shape)
    expected = NUMPY[name](model, variables, image)
    assert np.ptp(expected, axis=0).min() > 1e-4  # the images are told apart
    np.testing.assert_allclose(evaluate(model, variables, image), expected, rtol=1e-4, atol=1e-5)


HALF = [
    ("MLP", {"widths": (6, 5)}),
    *[("RNN", {"cell": cell, "hidden": 5, "layers": 2}) for cell in CELLS],
    ("ViT", {"patch": 4, "width": 6, "heads": 2, "mlp": 7, "depth": 1}),
    ("ResNet", {"blocks": (1,), "width": 4}),
]


@pytest.mark.parametrize(("name", "arguments"), HALF, ids=str)
def test_bfloat16_computes_in_half_and_keeps_parameters_and_logits_whole(name, arguments):
    shape = (8, 8, 2)
    model = getattr(models, name)(classes=3, dtype="bfloat16", **arguments)
    image = images(2, *shape)
    initial = jax.eval_shape(lambda key: model.init(key, jnp.asarray(image), train=False), jax.random.key(0))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(initial)} == {"float32"}
    variables = random_variables(model, shape)
    logits = evaluate(model, variables, image)
    assert logits.dtype == np.float32
    exact = NUMPY[name](model, variables, image)
    assert 1e-5 < np.abs(logits - exact).max() / np.abs(exact).max() < 0.05
    jaxpr = jax.make_jaxpr(lambda variables: model.apply(variables, image, train=False))(variables).jaxpr
    # The only product of float32 numbers is that of the logits.
    products = [e for e in equations(jaxpr) if e.primitive.name in ("dot_general", "conv_general_dilated")]
    assert [e.invars[1].aval.dtype.name for e in products].count("float32") == 1 < len(products)


def assert_key_decides(model: nn.Module, variables, image: np.ndarray) -> None:
    first, again, other = (train(model, variables, image, seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_mlp_drops_after_each_hidden_layer_in_training_alone():
    pixels, layers, kept = 64, 2, 0.25
    model = models.MLP(classes=pixels, widths=(pixels,) * layers, dropout=0.5)
    identity = {"kernel": np.eye(pixels, dtype=np.float32), "bias": np.zeros(pixels, np.float32)}
    variables = {"params": {f"Dense_{layer}": identity for layer in range(layers + 1)}}
    image = np.ones((20, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(evaluate(model, variables, image), np.ones((20, pixels)))
    logits, _ = train(model, variables, image, 0)
    # With identities as layers the logits are the dropped-out pixels themselves: 1280 draws, four deviations.
    assert set(np.unique(logits)) == {0, 1 / kept}
    assert abs((logits > 0).mean() - kept) < 0.056
    assert_key_decides(model, variables, image)


@pytest.mark.parametrize(("ones", "kept"), [("Dense_1", 0.5), ("Dense_2", 0.25), ("Dense_3", 0.5)])
def test_vit_drops_after_attention_and_each_dense_layer_in_training_alone(ones, kept):
    """A network of zeros but for one layer's bias: what is left of that layer is what dropout keeps."""
    width = 64
    model = models.ViT(classes=width, patch=8, width=width, depth=1, heads=1, mlp=width, pool="mean", dropout=0.5)
    variables = jax.tree.map(np.zeros_like, random_variables(model, (8, 8, 1)))
    params = variables["params"]
    params["Dense_0"]["kernel"] = np.eye(width, dtype=np.float32)
    params["LayerNorm_0"]["scale"] = np.ones(width, np.float32)
    params["block_0"][ones]["bias"] = np.ones(width, np.float32)
    if ones == "Dense_2":  # is dropped again after Dense_3
        params["block_0"]["Dense_3"]["kernel"] = np.eye(width, dtype=np.float32)
    image = images(20, 8, 8, 1)
    # The last norm takes a constant to 0, and what was kept among zeros to something positive.
    np.testing.assert_allclose(evaluate(model, variables, image), np.zeros((20, width)), atol=1e-3)
    logits, _ = train(model, variables, image, 0)
    assert abs((logits > 0).mean() - kept) < 0.056
    assert_key_decides(model, variables, image)


@pytest.mark.parametrize(("cell", "kernels"), [("simple", 1), ("lstm", 4), ("gru", 3)])
def test_recurrent_kernels_start_orthogonal(cell, kernels):
    variables = models.RNN(cell=cell, hidden=6, read="pixels").init(jax.random.key(0), images(1, 2, 2, 1), train=False)
    recurrent = np.split(variables["params"]["forward_0"]["recurrent"], kernels, axis=1)
    for kernel in recurrent:
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(6), atol=1e-5)
    assert len({kernel.tobytes() for kernel in recurrent}) == kernels  # each drawn by itself


IRNN = {"cell": "simple", "activation": "relu", "recurrent_init": "identity"}


@pytest.mark.parametrize("cell", [*({"cell": name} for name in CELLS), IRNN], ids=lambda cell: "-".join(cell.values()))
def test_gradients_through_784_pixels_are_finite(cell):
    model = models.RNN(**cell, hidden=6, read="pixels")
    image = np.random.default_rng(0).uniform(size=(1, 28, 28, 1)).astype(np.float32)
    params = model.init(jax.random.key(0), image[:, :2, :2], train=False)["params"]  # no length is in them
    gradients = jax.jit(jax.grad(lambda params: model.apply({"params": params}, image, train=True).sum()))(params)
    for gradient in jax.tree.leaves(gradients):
        assert 1e-6 < np.abs(gradient).max() < np.inf  # nor NaN


def test_vit_sees_patches_as_a_set_but_for_their_positions():
    model = models.ViT(classes=3, patch=4, width=6, depth=2, heads=2, mlp=5, pool="mean")
    variables = random_variables(model, (8, 12, 1))
    image, order = images(2, 8, 12, 1), [3, 0, 5, 1, 4, 2]
    patches = image.reshape(2, 2, 4, 3, 4).transpose(1, 3, 0, 2, 4).reshape(6, 2, 4, 4)[order]
    moved = np.block([[*patches[:3]], [*patches[3:]]])[..., None]
    logits = evaluate(model, variables, image)
    assert np.abs(evaluate(model, variables, moved) - logits).max() > 1e-3  # positions tell them apart
    variables["params"]["positions"] = variables["params"]["positions"][:, order]
    np.testing.assert_allclose(evaluate(model, variables, moved), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sides", [(8, 10), (6, 8)])
def test_vit_refuses_a_patch_that_does_not_divide_the_image(sides):
    with pytest.raises(InputError, match=r"patch = 4 does not divide an image of {}x{} pixels".format(*sides)):
        random_variables(models.ViT(patch=4), (*sides, 1))


def test_vit_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(InputError, match="heads = 3 does not divide width = 8"):
        random_variables(models.ViT(width=8, heads=3), (8, 8, 1))


def test_resnet_statistics_follow_their_closed_form():
    model = models.ResNet(blocks=(1,), width=2)
    variables = random_variables(model, (9, 9, 2))
    image = 2 + 3 * images(6, 9, 9, 2)
    logits, updated = train(model, variables, image)
    features = numpy_convolution(double(image), double(variables["params"]["Conv_0"]["kernel"]), "SAME")
    old, new = variables["batch_stats"], updated["batch_stats"]
    for name, batch in [("mean", features.mean((0, 1, 2))), ("var", features.var((0, 1, 2)))]:
        expected = 0.9 * old["BatchNorm_0"][name] + 0.1 * batch
        np.testing.assert_allclose(new["BatchNorm_0"][name], expected, rtol=1e-4, atol=1e-5)
    # The batch's own statistics, solved for in every norm's update, are what training normalises by.
    batch = jax.tree.map(lambda old, new: (new - 0.9 * old) / 0.1, double(old), double(new))
    by_batch = numpy_resnet(model, {"params": variables["params"], "batch_stats": batch}, image)
    np.testing.assert_allclose(logits, by_batch, rtol=1e-3, atol=1e-4)
