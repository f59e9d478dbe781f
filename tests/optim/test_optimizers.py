"""Optimizers, three steps each as the trainer takes them (`descend`), against their papers' updates in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import models
from jaxrec.errors import InputError
from jaxrec.optim import optimizers
from jaxrec.tasks.task import descend

RATE = 0.1
START = {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]]), "bias": np.array([0.3, -0.7])}


def objective(params):
    """A loss whose gradient is params**3: another one at each step."""
    return sum(jnp.sum(leaf**4) / 4 for leaf in jax.tree.leaves(params)), None


def gradient_descent(p: np.ndarray):
    for _ in range(3):
        p = p - RATE * p**3
    return p


def momentum(p: np.ndarray):
    velocity = 0
    for _ in range(3):
        velocity = 0.9 * velocity + p**3
        p = p - RATE * velocity
    return p


def nesterov(p: np.ndarray):
    """Nesterov (1983) in the form of Sutskever et al. (2013): the step looks one decay ahead."""
    velocity = 0
    for _ in range(3):
        gradient = p**3
        velocity = 0.9 * velocity + gradient
        p = p - RATE * (gradient + 0.9 * velocity)
    return p


def adagrad(p: np.ndarray):
    """Duchi et al. (2011), from an accumulator of 0.1 as in TensorFlow."""
    squares = np.full_like(p, 0.1)
    for _ in range(3):
        squares = squares + (p**3) ** 2
        p = p - RATE * p**3 / np.sqrt(squares + 1e-7)
    return p


def rmsprop(p: np.ndarray):
    """Tieleman and Hinton (2012)."""
    squares = np.zeros_like(p)
    for _ in range(3):
        squares = 0.9 * squares + 0.1 * (p**3) ** 2
        p = p - RATE * p**3 / np.sqrt(squares + 1e-8)
    return p


def adam(p: np.ndarray, weight_decay: float = 0.0):
    """Kingma and Ba (2015); with weight decay, AdamW of Loshchilov and Hutter (2019)."""
    first, second = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, 4):
        gradient = p**3
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        direction = (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        p = p - RATE * (direction + weight_decay * p)
    return p


@pytest.mark.parametrize(
    ("tx", "update"),
    [
        pytest.param(optax.sgd(RATE), gradient_descent, id="sgd"),
        pytest.param(optax.sgd(RATE, momentum=0.9), momentum, id="momentum"),
        pytest.param(optax.sgd(RATE, momentum=0.9, nesterov=True), nesterov, id="nesterov"),
        pytest.param(optax.adagrad(RATE), adagrad, id="adagrad"),
        pytest.param(optax.rmsprop(RATE), rmsprop, id="rmsprop"),
        pytest.param(optax.adam(RATE), adam, id="adam"),
        pytest.param(optax.adamw(RATE, weight_decay=0.3), lambda p: adam(p, 0.3), id="adamw"),
    ],
)
def test_three_steps_equal_the_hand_written_update(tx, update):
    params = three_steps(tx)
    for name, start in START.items():
        # Adam's 1 - 0.999**t loses three of float32's seven digits, so its steps of 0.1 are off by some 1e-6.
        np.testing.assert_allclose(params[name], update(start), rtol=1e-5, atol=3e-6)


def test_clipping_by_the_global_norm():
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(RATE))
    kernel, bias = START["kernel"], START["bias"]
    norms = []
    for _ in range(3):
        # One norm over all parameters, and only ever a shortening.
        norms.append(np.sqrt((kernel**6).sum() + (bias**6).sum()))
        scale = min(1.0, 1.0 / norms[-1])
        kernel, bias = kernel - RATE * scale * kernel**3, bias - RATE * scale * bias**3
    assert min(norms) > 1
    params = three_steps(tx)
    np.testing.assert_allclose(params["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(params["bias"], bias, rtol=1e-5)


def test_clipping_leaves_short_gradients_alone():
    tx = optax.chain(optax.clip_by_global_norm(1e3), optax.sgd(RATE))
    np.testing.assert_allclose(three_steps(tx)["kernel"], gradient_descent(START["kernel"]), rtol=1e-5)


def three_steps(tx: optax.GradientTransformation) -> dict[str, np.ndarray]:
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), START)
    opt_state, gradient = tx.init(params), jax.grad(objective, has_aux=True)
    step = jax.jit(lambda params, opt_state: descend(gradient, tx, params, opt_state)[:2])
    for _ in range(3):
        params, opt_state = step(params, opt_state)
    return jax.tree.map(np.asarray, params)


def newton_schulz(x: np.ndarray) -> np.ndarray:
    """Jordan et al. (2024): five steps of an odd polynomial in the singular values, from the Frobenius norm 1."""
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


KERNELS = {
    "Conv_0": {"kernel": np.random.default_rng(0).normal(size=(3, 3, 2, 4)), "bias": np.ones(4)},
    "Dense_0": {"kernel": np.random.default_rng(1).normal(size=(6, 12))},
    "Dense_1": {"kernel": np.random.default_rng(2).normal(size=(12, 3)), "bias": np.ones(3)},
    "positions": np.random.default_rng(3).normal(size=(1, 4, 6)),
}
KERNELS = jax.tree.map(jnp.float32, KERNELS)


def updates_of(tx: optax.GradientTransformation, params, gradients: list) -> list:
    """The updates after each of the gradients, as one compiled function."""

    @jax.jit
    def run(params, gradients):
        state, found = tx.init(params), []
        for gradient in gradients:
            updates, state = tx.update(gradient, state, params)
            found.append(updates)
        return found

    return jax.tree.map(np.asarray, run(params, gradients))


def test_muon_orthogonalises_kernels_as_matrices():
    """The first update is the gradient's own Newton-Schulz, near the UV^T of its SVD."""
    (updates,) = updates_of(optimizers.muon(0.1), KERNELS, [KERNELS])
    for name, rows, columns in [("Conv_0", 18, 4), ("Dense_0", 6, 12)]:
        gradient = np.float64(KERNELS[name]["kernel"]).reshape(rows, columns)
        update = updates[name]["kernel"].reshape(rows, columns) / -0.1 / max(1, columns / rows) ** 0.5
        np.testing.assert_allclose(update, newton_schulz(gradient), atol=1e-4)
        u, _, vt = np.linalg.svd(gradient, full_matrices=False)
        assert (np.abs(np.linalg.svd(update, compute_uv=False) - 0.95) < 0.3).all()
        assert np.linalg.norm(update - u @ vt) < 0.3 * np.linalg.norm(u @ vt)


def test_what_is_no_hidden_kernel_goes_to_adam_in_muon():
    """The first step of Adam is the rate times the sign: biases, positions, and the output layer, which is Dense_1."""
    (updates,) = updates_of(optimizers.muon(0.1, adam_learning_rate=0.01), KERNELS, [KERNELS])
    for update, gradient in [
        (updates["Conv_0"]["bias"], KERNELS["Conv_0"]["bias"]),
        (updates["Dense_1"]["kernel"], KERNELS["Dense_1"]["kernel"]),
        (updates["positions"], KERNELS["positions"]),
    ]:
        np.testing.assert_allclose(update, -0.01 * np.sign(gradient), rtol=1e-4)


def test_a_pattern_says_what_goes_to_adam_in_muon():
    (updates,) = updates_of(optimizers.muon(0.1, adam_learning_rate=0.01, fallback="Conv"), KERNELS, [KERNELS])
    np.testing.assert_allclose(np.abs(updates["Conv_0"]["kernel"]), 0.01, rtol=1e-4)
    head = np.float64(KERNELS["Dense_1"]["kernel"])
    np.testing.assert_allclose(updates["Dense_1"]["kernel"], -0.1 * newton_schulz(head.T).T, atol=1e-5)


@pytest.mark.parametrize("nesterov", [True, False])
def test_three_steps_of_muon(nesterov):
    """Momentum with its bias corrected, as Adam's first moment, and decay times the rate."""
    rng, weight = np.random.default_rng(4), np.ones((4, 6))
    gradients = rng.normal(size=(3, 4, 6))
    tx = optimizers.muon(0.1, beta=0.8, nesterov=nesterov, weight_decay=0.5)
    found = updates_of(tx, {"kernel": jnp.float32(weight)}, [{"kernel": jnp.float32(g)} for g in gradients])
    momentum = np.zeros((4, 6))
    for t, gradient in enumerate(gradients, 1):
        momentum = 0.8 * momentum + 0.2 * gradient
        ahead = 0.8 * momentum / (1 - 0.8 ** (t + 1)) + 0.2 * gradient / (1 - 0.8**t)
        direction = newton_schulz(ahead if nesterov else momentum) * np.sqrt(6 / 4)
        np.testing.assert_allclose(found[t - 1]["kernel"], -0.1 * (direction + 0.5 * weight), atol=1e-5)


def test_consistent_rms_makes_updates_of_all_shapes_alike():
    (updates,) = updates_of(optimizers.muon(1.0, consistent_rms=0.2), KERNELS, [KERNELS])
    for name in ("Conv_0", "Dense_0"):
        assert 0.15 < np.sqrt(np.mean(updates[name]["kernel"] ** 2)) < 0.25


def test_muon_of_a_frozen_network_keeps_its_last_layer_to_adam():
    """Dense_0 stays a matrix, though no learned layer follows it."""
    tx = optimizers.freeze("Dense_1", optimizers.muon(0.1))
    (updates,) = updates_of(tx, KERNELS, [KERNELS])
    (whole,) = updates_of(optimizers.muon(0.1), KERNELS, [KERNELS])
    np.testing.assert_allclose(updates["Dense_0"]["kernel"], whole["Dense_0"]["kernel"], rtol=1e-5)
    np.testing.assert_array_equal(updates["Dense_1"]["kernel"], 0)


def test_l1_pulls_kernels_towards_zero_at_one_strength():
    params = {"kernel": jnp.array([[2.0, -0.5, 0.0]]), "bias": jnp.array([2.0])}
    (updates,) = updates_of(optimizers.l1(0.1), params, [jax.tree.map(jnp.ones_like, params)])
    np.testing.assert_allclose(updates["kernel"], [[1.1, 0.9, 1.0]], rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 1)


TRANSFORMER = {
    name: {"Dense_0": {"kernel": jnp.ones((2, 2))}}
    for name in ("embedding", "tokenizer_1", "Conv_0", "block_0", "block_1", "block_10", "LayerNorm_0", "clsifier")
} | {"positions": jnp.ones((1, 2)), "cls": jnp.ones((1, 2))}


def test_layer_decay_lets_layers_near_the_image_move_less():
    """The blocks are counted by number, not by the order of their names: block_10 is the eleventh, so L = 11."""
    (updates,) = updates_of(optimizers.layer_decay(0.5), TRANSFORMER, [TRANSFORMER])
    layers = dict.fromkeys(("embedding", "tokenizer_1", "Conv_0", "positions", "cls"), 0)
    layers |= {"block_0": 1, "block_1": 2, "block_10": 11, "LayerNorm_0": 12, "clsifier": 12}
    assert set(layers) == set(TRANSFORMER)
    for name, layer in layers.items():
        np.testing.assert_allclose(jax.tree.leaves(updates[name])[0], 0.5 ** (12 - layer), err_msg=name)


@pytest.mark.parametrize("name", ["ViT", "CCT"])
def test_layer_decay_knows_the_parts_of_our_transformers(name):
    model = getattr(models, name)(width=8, heads=2, mlp=8, depth=2)
    shapes = jax.eval_shape(lambda image: model.init(jax.random.key(0), image, train=False), jnp.zeros((1, 8, 8, 1)))
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes["params"])
    (updates,) = updates_of(optimizers.layer_decay(0.5), params, [params])
    layers = {
        part: {round(3 + np.log2(np.asarray(leaf).flat[0])) for leaf in jax.tree.leaves(tree)}
        for part, tree in updates.items()
    }
    first = {"ViT": ("embedding", "positions", "cls"), "CCT": ("Conv_0", "positions")}[name]
    head = {"ViT": ("LayerNorm_0", "Dense_0"), "CCT": ("LayerNorm_0", "pool", "Dense_0")}[name]
    assert layers == {part: {0} for part in first} | {"block_0": {1}, "block_1": {2}} | {part: {3} for part in head}


def test_the_first_pattern_found_gives_the_factor():
    factors = (("kernel$", 3.0), ("^block_1", 2.0), ("cls", 0.0))
    (updates,) = updates_of(optimizers.scale_by_path(factors), TRANSFORMER, [TRANSFORMER])
    assert {name: float(np.mean(leaf)) for name, leaf in updates.items() if name in ("positions", "cls")} == {
        "positions": 1.0,
        "cls": 0.0,
    }
    np.testing.assert_array_equal(updates["block_1"]["Dense_0"]["kernel"], 3)


def test_frozen_parameters_have_no_state():
    state = optimizers.freeze("^(Conv|positions)", optax.adam(0.1)).init(KERNELS)
    frozen = sum(KERNELS[name].size for name in ("positions",)) + sum(leaf.size for leaf in KERNELS["Conv_0"].values())
    total = sum(leaf.size for leaf in jax.tree.leaves(KERNELS))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * (total - frozen) + 1


def test_a_long_list_of_paths_is_cut_short():
    many = {f"Dense_{i}": jnp.ones(1) for i in range(20)}
    with pytest.raises(InputError, match=r"'x' is found in .*; there are Dense_0, .* and 12 more\.$"):
        optimizers.freeze("x", optax.sgd(0.1)).init(many)
