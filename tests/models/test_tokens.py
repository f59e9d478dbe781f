"""Recurrent and self-attention networks beyond their plain form: directions, starts, positions, dropped paths, CCT."""

import functools
import itertools
import math

import jax
import numpy as np
import pytest
from references import random_variables
from test_families import CELLS, dense, double, evaluate, images, train
from test_models import equations, numpy_convolution

from jaxrec import layers, models
from jaxrec.errors import InputError
from jaxrec.models.blocks import DropPath
from jaxrec.models.transformer import Block, sincos_positions


def initial(model, *shape: int):
    init = jax.jit(lambda key: model.init(key, np.zeros((1, *shape), np.float32), train=False))
    return jax.tree.map(np.asarray, init(jax.random.key(0)))


# Recurrent networks


@pytest.mark.parametrize("cell", CELLS)
def test_two_directions_equal_numpy(cell):
    """Each direction is the plain recurrence, the backward one on the sequence turned round."""
    model = models.RNN(classes=3, cell=cell, hidden=4, layers=2, bidirectional=True)
    variables = random_variables(model, (5, 3, 2))
    image = images(2, 5, 3, 2)
    params = double(variables["params"])

    def read(name: str, sequence: list[np.ndarray]) -> list[np.ndarray]:
        h = c = np.zeros((2, 4))
        outputs = []
        for x in sequence:
            h, c = CELLS[cell](params[name], x, h, c)
            outputs.append(h)
        return outputs

    sequence = [row.reshape(2, -1) for row in double(image).swapaxes(0, 1)]
    for layer in range(2):
        there, back = read(f"forward_{layer}", sequence), read(f"backward_{layer}", sequence[::-1])
        sequence = [np.hstack(both) for both in zip(there, back[::-1], strict=True)]
    expected = dense(params, "Dense_0", np.hstack([there[-1], back[-1]]))
    assert np.abs(there[-1] - back[-1]).max() > 1e-2
    np.testing.assert_allclose(evaluate(model, variables, image), expected, rtol=1e-4, atol=1e-5)


def test_irnn_starts_as_a_sum_over_time():
    """Identity, relu and no bias add up what is never negative (Le et al., 2015)."""
    model = models.RNN(classes=3, cell="simple", hidden=4, read="pixels", activation="relu", recurrent_init="identity")
    variables = initial(model, 4, 4, 2)
    layer = variables["params"]["forward_0"]
    np.testing.assert_array_equal(layer["recurrent"], np.eye(4))
    np.testing.assert_array_equal(layer["bias"], np.zeros(4))
    layer["input"] = np.abs(layer["input"])
    image = np.abs(images(2, 4, 4, 2))
    expected = dense(variables["params"], "Dense_0", image.sum((1, 2)) @ layer["input"])
    np.testing.assert_allclose(evaluate(model, variables, image), expected, rtol=1e-5, atol=1e-5)
    # From below, relu holds the state at 0.
    np.testing.assert_array_equal(evaluate(model, variables, -image), np.zeros((2, 3)))


@pytest.mark.parametrize("value", [1.0, 0.5])
def test_the_forget_gate_alone_starts_with_a_bias(value):
    model = models.RNN(hidden=3, **({} if value == 1.0 else {"forget_bias": value}))
    init = jax.jit(lambda key: model.init(key, np.zeros((1, 2, 2, 1)), train=False)["params"]["forward_0"]["bias"])
    np.testing.assert_array_equal(init(jax.random.key(0)), np.repeat([0, value, 0, 0], 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "gru", "activation": "relu"}, "activation = 'relu' is for cell = 'simple' alone, not 'gru'"),
        ({"recurrent_init": "identity"}, "recurrent_init = 'identity' is for cell = 'simple' alone, not 'lstm'"),
        ({"cell": "simple", "forget_bias": 2.0}, "forget_bias = 2.0 is for cell = 'lstm' alone, not 'simple'"),
    ],
)
def test_an_argument_of_another_cell_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        random_variables(models.RNN(**arguments), (4, 4, 1))


@pytest.mark.parametrize("cell", CELLS)
def test_the_input_is_multiplied_before_the_loop_and_on_a_cpu_inside_it(cell):
    model = models.RNN(classes=3, cell=cell, hidden=4, bidirectional=True)
    variables = random_variables(model, (5, 3, 1))
    image = images(2, 5, 3, 1)

    def gradient(params, image):
        return jax.grad(lambda params: (model.apply({"params": params}, image, train=True) ** 2).sum())(params)

    fast = jax.jit(gradient)(variables["params"], image)
    with layers.plain():
        jaxpr = jax.make_jaxpr(lambda image: model.apply(variables, image, train=False))(image).jaxpr
        own = jax.jit(gradient)(variables["params"], image)
    loops = [e.params["jaxpr"].jaxpr for e in equations(jaxpr) if e.primitive.name == "scan"]
    products = [
        [e.invars[1].aval.shape for e in equations(loop) if e.primitive.name == "dot_general"] for loop in loops
    ]
    gates = {"simple": 1, "lstm": 4, "gru": 3}[cell]
    assert products == [[(4, 4 * gates)]] * 2  # the state's alone
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), fast, own)


# Positions, dropped paths, attention


def test_sincos_positions_are_products_of_distances():
    """Any two tokens' vectors have the product sum cos(w dx) + cos(w dy), whatever their places."""
    table = sincos_positions(3, 5, 8)[0].astype(np.float64)
    places = list(itertools.product(range(3), range(5)))
    assert table.shape == (15, 8)
    for (a, one), (b, other) in itertools.combinations_with_replacement(zip(table, places, strict=True), 2):
        dy, dx = one[0] - other[0], one[1] - other[1]
        expected = sum(math.cos(w * dx) + math.cos(w * dy) for w in (1.0, 0.01))
        assert a @ b == pytest.approx(expected, abs=1e-6)
    # Row 2, column 1: the column's half comes first.
    angles = [1, 0.01], [2, 0.02]
    expected = [f(angle) for group in angles for f in (math.sin, math.cos) for angle in group]
    np.testing.assert_allclose(table[2 * 5 + 1], expected, atol=1e-7)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_vit_with_sincos_positions_is_one_that_has_learned_them(pool):
    arguments = {"classes": 3, "width": 8, "heads": 2, "mlp": 5, "depth": 1, "pool": pool, "qkv_bias": False}
    model = models.ViT(**arguments, positions="sincos")
    variables = random_variables(model, (8, 12, 1))
    learned = {"params": variables["params"] | {"positions": np.zeros((1, 6 + (pool == "cls"), 8), np.float32)}}
    learned["params"]["positions"][:, -6:] = sincos_positions(2, 3, 8)
    image = images(2, 8, 12, 1)
    np.testing.assert_allclose(
        evaluate(model, variables, image), evaluate(models.ViT(**arguments), learned, image), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["ViT", "CCT"])
def test_widths_that_do_not_go_into_quarters_or_heads_are_refused(name):
    model = getattr(models, name)
    with pytest.raises(InputError, match="width that is a multiple of 4, not 6"):
        random_variables(model(width=6, heads=2, positions="sincos"), (8, 8, 1))
    with pytest.raises(InputError, match="heads = 4 does not divide width = 6"):
        random_variables(model(width=6, heads=4), (8, 8, 1))


def test_a_path_is_dropped_for_whole_examples_in_training_alone():
    x = np.ones((2000, 2, 3), np.float32)
    rngs = {"dropout": jax.random.key(0)}
    y = np.asarray(DropPath(0.2).apply({}, x, train=True, rngs=rngs)).reshape(2000, -1)
    np.testing.assert_array_equal(y, np.repeat(y[:, :1], 6, axis=1))
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.8], rtol=1e-6)
    assert abs((y[:, 0] > 0).mean() - 0.8) < 0.036  # four deviations
    np.testing.assert_array_equal(DropPath(0.2).apply({}, x, train=False), x)


@pytest.mark.parametrize(("name", "arguments"), [("ViT", {}), ("CCT", {"attention_dropout": 0.0})])
def test_stochastic_depth_leaves_out_branches_of_the_last_block(name, arguments):
    model = getattr(models, name)(width=8, heads=2, mlp=5, depth=2, stochastic_depth=0.5, **arguments)
    variables = random_variables(model, (8, 8, 1))

    @functools.partial(jax.jit, static_argnums=0)
    def blocks(train: bool) -> list[jax.Array]:
        _, state = model.apply(
            variables,
            images(64, 8, 8, 1),
            train=train,
            rngs={"dropout": jax.random.key(0)},
            capture_intermediates=lambda module, _: isinstance(module, Block),
            mutable=["intermediates"],
        )
        return [state["intermediates"][f"block_{index}"]["__call__"][0] for index in range(2)]

    (first, second), (kept_first, kept_second) = blocks(True), blocks(False)
    np.testing.assert_array_equal(first, kept_first)  # its rate is 0
    changed = np.abs(second - kept_second).max((1, 2)) > 1e-3
    assert changed.all()  # what is not left out counts double
    if name == "ViT":  # a quarter leave out both branches; in CCT's block a norm is left
        same = np.abs(second - first).max((1, 2)) == 0
        assert abs(same.mean() - 0.25) < 0.22


def attend(model: Block, x: np.ndarray, train: bool = False):
    """(variables, tokens, intermediates) of one block, all of its layers captured."""
    shapes = jax.eval_shape(lambda key: model.init(key, x, train=False), jax.random.key(0))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(0, 0.7, leaf.shape).astype(np.float32), shapes)
    options = {"rngs": {"dropout": jax.random.key(0)}, "capture_intermediates": True, "mutable": ["intermediates"]}
    y, state = jax.jit(lambda x: model.apply(variables, x, train=train, **options))(x)
    return variables, y, state["intermediates"]


def test_attention_maps_are_what_the_block_attends_by():
    model = Block(heads=2, mlp=5)
    x = images(3, 6, 8)
    variables, y, kept = attend(model, x)
    (weights,) = kept["attention"]
    assert weights.shape == (3, 2, 6, 6)
    np.testing.assert_allclose(weights.sum(-1), np.ones((3, 2, 6)), rtol=1e-6)
    assert weights.min() < 0.05 < 0.3 < weights.max()
    values = kept["Dense_0"]["__call__"][0][..., 16:].reshape(3, 6, 2, 4)
    attended = np.einsum("bhts,bshd->bthd", weights, values).reshape(3, 6, 8)
    projected = dense(variables["params"], "Dense_1", attended)
    np.testing.assert_allclose(kept["Dense_1"]["__call__"][0], projected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(evaluate(model, variables, x), y, rtol=1e-5, atol=1e-5)


def test_attention_maps_are_computed_when_asked_for():
    model = Block(heads=2, mlp=5)
    x = images(1, 6, 8)
    variables = jax.eval_shape(lambda key: model.init(key, x, train=False), jax.random.key(0))
    assert set(variables) == {"params"}

    def products(**arguments) -> int:
        jaxpr = jax.make_jaxpr(lambda variables: model.apply(variables, x, train=True, **arguments))(variables).jaxpr
        return sum(equation.primitive.name == "dot_general" for equation in equations(jaxpr))

    assert products() == 6  # four layers, queries by keys, weights by values
    assert products(mutable=["intermediates"]) == 7


def test_every_model_shows_the_attention_of_each_block():
    for model in (models.ViT(width=8, heads=2, mlp=5, depth=2), models.CCT(width=8, heads=2, mlp=5, depth=2)):
        run = functools.partial(model.apply, train=False, mutable=["intermediates"])
        _, state = jax.eval_shape(run, random_variables(model, (8, 8, 1)), images(2, 8, 8, 1))
        tokens = 5 if isinstance(model, models.ViT) else 16
        shapes = {name: block["attention"][0].shape for name, block in state["intermediates"].items()}
        assert shapes == {f"block_{index}": (2, 2, tokens, tokens) for index in range(2)}


def test_attention_dropout_drops_weights_in_training_alone():
    """Tokens that are alike attend to all alike; what is left of their common value counts the weights kept."""
    model = Block(heads=2, mlp=5, attention_dropout=0.25)
    x = np.repeat(images(40, 1, 8), 6, axis=1)

    def shares(train: bool) -> np.ndarray:
        """[B, T, heads, D / heads]: how much of the value is attended."""
        variables, _, kept = attend(model, x, train)
        values = np.asarray(kept["Dense_0"]["__call__"][0])[..., 16:].reshape(40, 6, 2, 4)
        out = variables["params"]["Dense_1"]
        attended = (np.asarray(kept["Dense_1"]["__call__"][0]) - out["bias"]) @ np.linalg.inv(double(out["kernel"]))
        return attended.reshape(40, 6, 2, 4) / values

    np.testing.assert_allclose(shares(train=False), np.ones((40, 6, 2, 4)), rtol=1e-2)
    count = shares(train=True) * 6 * 0.75
    np.testing.assert_allclose(count, np.broadcast_to(np.round(count[..., :1]), count.shape), atol=0.05)
    assert set(np.unique(np.round(count))) >= {2, 3, 4, 5, 6}
    assert abs(count[..., 0].mean() / 6 - 0.75) < 0.04  # 2880 draws


# CCT


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


def numpy_cct(model: models.CCT, variables, image: np.ndarray) -> np.ndarray:
    params, x = double(variables["params"]), double(image)
    for index in range(model.convolutions):
        stride = {3: 1, 5: 1, 7: 2}[model.kernel]
        x = numpy_convolution(x, params[f"Conv_{index}"]["kernel"], "SAME")[:, ::stride, ::stride]
        x = np.pad(np.maximum(x, 0), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2].max((-2, -1))
    table = sincos_positions(*x.shape[1:3], model.width) if model.positions == "sincos" else params["positions"]
    x = x.reshape(len(x), -1, model.width) + table

    def norm(p, x: np.ndarray) -> np.ndarray:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

    for p in (params[f"block_{index}"] for index in range(model.depth)):
        qkv = (norm(p["LayerNorm_0"], x) @ p["Dense_0"]["kernel"]).reshape(*x.shape[:2], 3, model.heads, -1)
        q, k, v = np.moveaxis(qkv, (2, 3), (0, 2))  # [B, heads, T, D / heads]
        weights = softmax(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]), -1)
        x = x + dense(p, "Dense_1", (weights @ v).swapaxes(1, 2).reshape(x.shape))
        x = norm(p["LayerNorm_1"], x)
        x = x + dense(p, "Dense_3", gelu(dense(p, "Dense_2", x)))
    x = norm(params["LayerNorm_0"], x)
    return dense(params, "Dense_0", (softmax(dense(params, "pool", x), 1) * x).sum(1))


CCTS = [
    ({"width": 8, "heads": 2, "mlp": 5, "depth": 2, "convolutions": 2}, (9, 8, 2)),
    ({"width": 4, "heads": 1, "mlp": 6, "depth": 1, "kernel": 7, "positions": "sincos"}, (12, 9, 1)),
]


@pytest.mark.parametrize(("arguments", "shape"), CCTS, ids=str)
def test_cct_equals_numpy(arguments, shape):
    model = models.CCT(classes=3, **arguments)
    variables = random_variables(model, shape)
    image = images(2, *shape)
    expected = numpy_cct(model, variables, image)
    assert np.ptp(expected, axis=0).min() > 1e-3  # the images are told apart
    np.testing.assert_allclose(evaluate(model, variables, image), expected, rtol=1e-4, atol=1e-5)


def test_cct_in_half_precision_keeps_parameters_and_logits_whole():
    arguments, shape = CCTS[0]
    model = models.CCT(classes=3, dtype="bfloat16", **arguments)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images(2, *shape), train=False))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(shapes)} == {"float32"}
    variables = random_variables(model, shape)
    logits = evaluate(model, variables, images(2, *shape))
    exact = numpy_cct(model, variables, images(2, *shape))
    assert logits.dtype == np.float32
    assert 1e-5 < np.abs(logits - exact).max() / np.abs(exact).max() < 0.05


def test_cct_starts_as_published():
    params = initial(models.CCT(width=128, depth=1, heads=2, mlp=128, convolutions=2), 16, 16, 3)["params"]
    deviations = {
        "Conv_0": math.sqrt(2 / 27),
        "Conv_1": math.sqrt(2 / 576),
        "positions": 0.2,
        **dict.fromkeys(("Dense_0", "Dense_1", "Dense_2", "Dense_3", "pool"), 0.02),
    }
    for name, expected in deviations.items():
        weights = (params | params["block_0"] | {"pool": params["pool"]})[name]
        weights = weights if name == "positions" else weights["kernel"]
        # Six deviations of the estimate, and nothing is cut off at two.
        assert abs(weights.std() / expected - 1) < 6 / math.sqrt(2 * weights.size)
        assert np.abs(weights).max() > 2.2 * expected
    biases = [params["block_0"][f"Dense_{index}"]["bias"] for index in (1, 2, 3)]
    assert not any(bias.any() for bias in biases)


def test_cct_drops_tokens_features_in_training_alone():
    """A network of zeros but for positions of ones: what is left of these is what dropout keeps."""
    model = models.CCT(classes=64, width=64, depth=1, heads=1, mlp=8, dropout=0.5)
    variables = jax.tree.map(np.zeros_like, random_variables(model, (2, 2, 1)))
    params = variables["params"]
    params["positions"] = np.ones((1, 1, 64), np.float32)
    params["Dense_0"]["kernel"] = np.eye(64, dtype=np.float32)
    params["LayerNorm_0"]["scale"] = params["block_0"]["LayerNorm_1"]["scale"] = np.ones(64, np.float32)
    image = images(20, 2, 2, 1)
    np.testing.assert_allclose(evaluate(model, variables, image), np.zeros((20, 64)), atol=1e-3)
    logits, _ = train(model, variables, image, 0)
    assert abs((logits > 0).mean() - 0.5) < 0.056  # four deviations


def test_an_irnn_starts_small_enough_to_add_up_a_whole_image():
    model = models.RNN(cell="simple", hidden=16, read="pixels", activation="relu", recurrent_init="identity")
    variables = model.init(jax.random.key(0), images(1, 28, 28, 1), train=False)
    layer = variables["params"]["forward_0"]
    np.testing.assert_array_equal(layer["recurrent"], np.eye(16))
    assert 0.0005 < np.std(layer["input"]) < 0.002  # Le et al.: 0.001
    logits = model.apply(variables, images(4, 28, 28, 1), train=False)
    assert np.abs(logits).max() < 1  # 784 pixels later
