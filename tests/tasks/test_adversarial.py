"""Adversarial losses and their task, against closed forms, and steps taken by hand in numpy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxrec import layers, metrics
from jaxrec.data.batches import eval_batches, train_batches
from jaxrec.engine.program import compile_task
from jaxrec.errors import InputError
from jaxrec.losses import adversarial as losses
from jaxrec.losses.adversarial import gradient_penalty, squared_slope
from jaxrec.models.critics import ConvCritic, DenseCritic
from jaxrec.models.decoders import DenseDecoder
from jaxrec.models.generators import Generator
from jaxrec.sharding import data_parallel
from jaxrec.tasks import adversarial, spectral
from jaxrec.tasks.adversarial import adversarial_task
from jaxrec.tasks.average import with_average
from jaxrec.tasks.gradients import accumulated

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(scale=3, size=(2, 50))
RATE = 0.1


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, -x)


# Name -> (the discriminator's loss, the generator's), of D = sigmoid(logit) where the paper has a probability.
CLOSED = {
    "minimax": (lambda r, f: -(log_sigmoid(r) + log_sigmoid(-f)) / 2, lambda f: log_sigmoid(-f)),
    "non_saturating": (lambda r, f: -(log_sigmoid(r) + log_sigmoid(-f)) / 2, lambda f: -log_sigmoid(f)),
    "least_squares": (lambda r, f: 0.5 * (r - 1) ** 2 + 0.5 * f**2, lambda f: 0.5 * (f - 1) ** 2),
    "wasserstein": (lambda r, f: f - r, lambda f: -f),
    "hinge": (lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f), lambda f: -f),
}


@pytest.mark.parametrize("name", CLOSED)
def test_losses_are_the_papers(name):
    loss, (discriminator, generator) = getattr(losses, name)(), CLOSED[name]
    assert loss.discriminator(REAL, FAKE).shape == loss.generator(FAKE).shape == (50,)
    np.testing.assert_allclose(loss.discriminator(REAL, FAKE), discriminator(REAL, FAKE), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss.generator(FAKE), generator(FAKE), rtol=1e-5, atol=1e-6)


def test_the_minimax_loss_is_half_of_both_parts():
    real, fake = 1 / (1 + np.exp(-REAL)), 1 / (1 + np.exp(-FAKE))
    expected = (-np.log(real) - np.log(1 - fake)) / 2
    for name in ("minimax", "non_saturating"):
        np.testing.assert_allclose(getattr(losses, name)().discriminator(REAL, FAKE), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "logit", "d_loss", "g_loss"),
    [
        ("minimax", 0.0, math.log(2), -math.log(2)),
        ("non_saturating", 0.0, math.log(2), math.log(2)),
        ("least_squares", 0.5, 0.25, 0.125),
        ("wasserstein", 0.7, 0.0, -0.7),
        ("hinge", 0.0, 2.0, 0.0),
    ],
)
def test_where_generated_images_are_as_real_ones_no_other_logit_is_better(name, logit, d_loss, g_loss):
    """One logit for both is the discriminator's best answer; the generator's gradient there is the closed form's."""
    loss = getattr(losses, name)()
    found, slope = jax.value_and_grad(lambda x: loss.discriminator(x, x))(logit)
    np.testing.assert_allclose([found, loss.generator(logit)], [d_loss, g_loss], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(slope, 0, atol=1e-7)


# Penalties. The slope of a linear critic is its weight, everywhere.
WEIGHT = jnp.asarray(RNG.normal(size=(4, 4, 1)), jnp.float32)
IMAGES = jnp.asarray(RNG.normal(size=(2, 6, 4, 4, 1)), jnp.float32)


def linear(weight: jax.Array, image: jax.Array) -> jax.Array:
    return jnp.einsum("bhwc,hwc->b", image, weight) + 3


def test_the_penalties_of_a_linear_critic():
    norm, critic = np.linalg.norm(WEIGHT), functools.partial(linear, WEIGHT)
    penalty = functools.partial(gradient_penalty, real=IMAGES[0], fake=IMAGES[1], key=jax.random.key(0))
    np.testing.assert_allclose(penalty(critic), np.full(6, (norm - 1) ** 2), rtol=1e-5)
    np.testing.assert_allclose(squared_slope(critic, IMAGES[0]), np.full(6, norm**2), rtol=1e-5)
    slope = jax.grad(lambda weight: penalty(functools.partial(linear, weight)).mean())(WEIGHT)
    np.testing.assert_allclose(slope, 2 * (norm - 1) / norm * WEIGHT, rtol=1e-4)
    flat = jax.grad(lambda weight: penalty(functools.partial(linear, weight)).mean())(jnp.zeros_like(WEIGHT))
    np.testing.assert_array_equal(flat, 0)  # the root of 0 has no slope, and must not make NaN of it


def test_the_gradient_penalty_looks_between_real_and_generated_images():
    """The critic |x|^2 / 2 has slope x, so the penalty tells where it was measured: between 1 and 3 for such images."""
    ones = jnp.ones((500, 1, 1, 1))
    found = gradient_penalty(lambda x: jnp.square(x).sum((1, 2, 3)) / 2, ones, 3 * ones, jax.random.key(0))
    where = np.sqrt(found) + 1
    assert where.min() >= 1
    assert where.max() <= 3
    np.testing.assert_allclose([where.mean(), where.std()], [2, 2 / math.sqrt(12)], atol=0.1)


@pytest.mark.slow
def test_second_order_gradients_through_our_convolutions_are_those_of_xlas_own():
    network = ConvCritic(widths=(4, 8), norm="layer")
    params = network.init(jax.random.key(0), IMAGES[0], train=False)["params"]

    @jax.jit
    def gradients(params):
        def objective(params):
            critic = lambda image: jnp.tanh(network.apply({"params": params}, image, train=False))  # noqa: E731
            both = gradient_penalty(critic, IMAGES[0], IMAGES[1], jax.random.key(0)) + squared_slope(critic, IMAGES[0])
            return both.mean()

        return jax.grad(objective)(params)

    fast = gradients(params)
    assert "stablehlo.convolution" not in gradients.lower(params).as_text()  # products: slow in second order otherwise
    with layers.plain():
        own = gradients(params)
        assert "stablehlo.convolution" in gradients.lower(params).as_text()
    for ours, theirs in zip(jax.tree.leaves(fast), jax.tree.leaves(own), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max() + 1e-8)
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(fast))


# The task.


class Constant(nn.Module):
    """A generator that makes one image of any noise, so that its steps can be taken by hand."""

    @nn.compact
    def __call__(self, noise: jax.Array, label: jax.Array, *, train: bool) -> jax.Array:
        image = self.param("image", nn.initializers.constant(0.25), (2, 2, 1))
        return jnp.broadcast_to(image[None], (len(noise), 2, 2, 1))


def batch_of(examples: int = 8, side: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "image": rng.uniform(size=(examples, side, side, 1)).astype(np.float32),
        "label": (np.arange(examples) % 3).astype(np.int32),
        "id": np.arange(examples, dtype=np.int32),
        "seed": np.zeros(examples, np.uint32),
        "mask": np.ones(examples, bool),
    }


def by_hand(loss: str = "wasserstein", generator_rate: float = RATE, rate: float = RATE, **options):
    """A linear critic against one constant image."""
    return adversarial_task(
        Constant(),
        DenseCritic(widths=()),
        getattr(losses, loss)(),
        tx_generator=optax.sgd(generator_rate),
        tx_discriminator=optax.sgd(rate),
        latent=3,
        **options,
    )


def small(loss: str = "non_saturating", *, classes: int | None = None, **options):
    """Two dense networks on images of 2x2 pixels."""
    return adversarial_task(
        Generator(DenseDecoder(shape=(2, 2, 1), widths=(8,)), classes),
        DenseCritic(widths=(8,), classes=classes),
        getattr(losses, loss)(),
        **{"tx_generator": optax.sgd(RATE), "tx_discriminator": optax.sgd(RATE), "latent": 3, **options},
    )


def test_a_step_is_the_gradient_steps_taken_by_hand():
    """Wasserstein: the critic moves by the difference of the means, then the image along the new critic."""
    task, batch = by_hand(), batch_of()
    before = task.init(jax.random.key(0), batch)
    after, found = jax.jit(task.train_step)(before, batch, jax.random.key(1))
    weight = np.asarray(before.params["discriminator"]["Dense_0"]["kernel"]).reshape(2, 2, 1)
    real = 2 * batch["image"].mean(0) - 1  # in [-1, 1], as the generator's
    image = np.full((2, 2, 1), 0.25)
    new_weight = weight - RATE * (image - real)
    layer = after.params["discriminator"]["Dense_0"]
    np.testing.assert_allclose(layer["kernel"].reshape(2, 2, 1), new_weight, rtol=1e-5)
    np.testing.assert_allclose(layer["bias"], 0, atol=1e-6)  # fake - real does not know it
    np.testing.assert_allclose(after.params["generator"]["image"], image + RATE * new_weight, rtol=1e-5)
    numbers = metrics.compute([found])
    d_real, d_fake = (weight * real).sum(), (weight * image).sum()
    expected = {
        "d_real": d_real,
        "d_fake": d_fake,
        "d_loss": d_fake - d_real,
        "g_loss": -(new_weight * image).sum(),
        "d_gradient": np.linalg.norm(image - real),
        "g_gradient": np.linalg.norm(new_weight),
        "d_accuracy": (((2 * batch["image"] - 1) * weight).sum((1, 2, 3)) > d_fake).mean(),
    }
    assert numbers.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(numbers[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert int(after.step) == 1


def test_penalties_count_in_the_gradient_with_their_weights():
    batch, key = batch_of(), jax.random.key(0)
    plain, penalised = by_hand(generator_rate=0.0), by_hand(generator_rate=0.0, penalty=10.0, r1=0.5)
    before = plain.init(key, batch)
    without, _ = jax.jit(plain.train_step)(before, batch, key)
    after, found = jax.jit(penalised.train_step)(before, batch, key)
    weight, without, after = (
        np.asarray(state.params["discriminator"]["Dense_0"]["kernel"]) for state in (before, without, after)
    )
    norm = np.linalg.norm(weight)
    slope = 10 * 2 * (norm - 1) / norm * weight + 0.5 / 2 * 2 * weight
    np.testing.assert_allclose(after, without - RATE * slope, rtol=1e-4, atol=1e-6)
    numbers = metrics.compute([found])
    np.testing.assert_allclose(numbers["gradient_penalty"], 10 * (norm - 1) ** 2, rtol=1e-4)
    np.testing.assert_allclose(numbers["r1"], 0.25 * norm**2, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"r1": 0.5, "critic_steps": 2, "spectral_norm": True}], ids=str)
def test_a_step_taken_in_parts_is_the_same_step(options):
    """The image of every noise is one, so parts that draw their own noise have the same gradients to add up."""
    batch, key, states = batch_of(16), jax.random.key(0), []
    for parts in (1, 4):
        task = by_hand("non_saturating", gradient=accumulated(parts), **options)
        state, found = jax.jit(task.train_step)(task.init(key, batch), batch, key)
        states.append((state, metrics.compute([found])))
    (whole, numbers), (in_parts, others) = states
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), whole, in_parts)
    for name, number in numbers.items():
        np.testing.assert_allclose(others[name], number, rtol=1e-4, atol=1e-6, err_msg=name)


class Forgetful(nn.Module):
    """A critic with dropout."""

    @nn.compact
    def __call__(self, image: jax.Array, label: jax.Array, *, train: bool) -> jax.Array:
        return nn.Dense(1)(nn.Dropout(0.5)(image.reshape(len(image), -1), deterministic=not train))[:, 0]


def test_the_critic_may_drop_units_out():
    """By the step's key in training; an evaluation drops nothing, so it is that of the critic without dropout."""
    options = {"tx_generator": optax.sgd(RATE), "tx_discriminator": optax.sgd(RATE), "latent": 3}
    task = adversarial_task(Constant(), Forgetful(), losses.wasserstein(), **options)
    batch, key = batch_of(), jax.random.key(0)
    state, step = task.init(key, batch), jax.jit(task.train_step)
    first, again, other = (metrics.compute([step(state, batch, jax.random.key(k))[1]])["d_real"] for k in (1, 1, 2))
    assert first == again != other
    layer = state.params["discriminator"]["Dense_0"]
    logits = (2 * batch["image"] - 1).reshape(8, -1) @ np.asarray(layer["kernel"])
    found = metrics.compute([task.eval_step(state, batch, key)])
    np.testing.assert_allclose(found["d_real"], logits.mean(), rtol=1e-4, atol=1e-6)


def test_each_update_leaves_the_other_network_alone():
    batch, key = batch_of(), jax.random.key(0)
    for still, moving in (("generator", "discriminator"), ("discriminator", "generator")):
        task = small(**{f"tx_{still}": optax.sgd(0.0), f"tx_{moving}": optax.sgd(RATE)})
        before = task.init(key, batch)
        after, _ = jax.jit(task.train_step)(before, batch, key)
        jax.tree.map(np.testing.assert_array_equal, before.params[still], after.params[still])
        assert any(
            (a != b).any()
            for a, b in zip(jax.tree.leaves(before.params[moving]), jax.tree.leaves(after.params[moving]), strict=True)
        )


def test_critic_steps_are_the_steps_taken_one_by_one():
    """Two parts of interleaved rows in one step against two steps, of which the generator takes the last alone."""
    batch, key = batch_of(), jax.random.key(0)
    both, one = by_hand("hinge", critic_steps=2), by_hand("hinge", generator_rate=0.0)
    start = one.init(key, batch)
    state, counts = start, []
    for part in range(2):
        rows = {name: values[part::2] for name, values in batch.items()}
        last = state
        state, found = jax.jit(one.train_step)(state, rows, key)
        counts.append(found)
    together, found = jax.jit(both.train_step)(start, batch, key)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
        together.params["discriminator"],
        state.params["discriminator"],
    )
    numbers, apart = metrics.compute([found]), metrics.compute(counts)
    for name in ("d_loss", "d_real", "d_fake", "d_accuracy", "d_gradient"):
        np.testing.assert_allclose(numbers[name], apart[name], rtol=1e-5, err_msg=name)
    alone = by_hand("hinge")
    image = jax.jit(alone.train_step)(last, rows, key)[0].params["generator"]["image"]
    np.testing.assert_allclose(together.params["generator"]["image"], image, rtol=1e-5)
    assert (int(state.step), int(together.step)) == (2, 1)
    with pytest.raises(InputError, match=r"critic_steps = 3 does not divide a batch of 8 examples"):
        by_hand(critic_steps=3).train_step(start, batch, key)


def test_spectral_norm_takes_one_power_iteration_for_each_step_of_the_discriminator():
    batch, key = batch_of(), jax.random.key(0)
    task = small("hinge", spectral_norm=True, penalty=1.0)  # a penalty calls the network once more
    before = task.init(key, batch)
    after, _ = jax.jit(task.train_step)(before, batch, key)
    expected = spectral.power_iteration(before.params["discriminator"], before.extra["discriminator"]["spectral"])
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5), after.extra["discriminator"]["spectral"], expected
    )
    # What is measured is the network whose matrices are divided: the same logits as of the divided parameters.
    network = DenseCritic(widths=(8,))
    params = spectral.normalise(after.params["discriminator"], after.extra["discriminator"]["spectral"])
    logits = network.apply({"params": params}, 2 * batch["image"] - 1, train=False)
    found = metrics.compute([task.eval_step(after, batch, key)])
    np.testing.assert_allclose(found["d_real"], logits.mean(), rtol=1e-5)


def test_evaluation_is_exact_and_draws_by_example():
    """The same numbers for any batch size, padding and key; images in the order of the batch's rows."""

    def seen(image, batch):
        return {"": metrics.Rows({"image": image, "id": batch["id"]}, batch["mask"])}

    task, batch = small(classes=3, statistics=seen), batch_of(7)
    state = task.init(jax.random.key(0), batch)
    evaluate = jax.jit(task.eval_step)
    whole = metrics.compute([evaluate(state, batch, jax.random.key(1))])
    padded = {name: np.concatenate([rows, rows[:1]]) for name, rows in batch.items()}
    padded["mask"] = np.arange(8) < 7
    parts = [{name: rows[start : start + 4] for name, rows in padded.items()} for start in (0, 4)]
    cut = metrics.compute([evaluate(state, part, jax.random.key(2)) for part in parts])
    assert whole.keys() == cut.keys() == {"d_loss", "g_loss", "d_real", "d_fake", "d_accuracy", "image", "id"}
    for name, value in whole.items():
        np.testing.assert_allclose(cut[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert whole["image"].shape == (7, 2, 2, 1)
    assert whole["image"].min() >= 0
    assert whole["image"].max() <= 1
    assert whole["image"].std(0).max() > 0.01


def test_the_sampler_draws_by_key_and_label_from_the_average():
    generator = Generator(DenseDecoder(shape=(2, 2, 1), widths=(8,)), 3)
    task, batch = with_average(small(classes=3), 0.5), batch_of()
    state = task.init(jax.random.key(0), batch)
    for _ in range(3):
        state, _ = jax.jit(task.train_step)(state, batch, jax.random.key(1))
    draw = jax.jit(adversarial.sampler(generator, 3))
    keys = jax.random.split(jax.random.key(2), 4)
    images = draw(state, keys, np.arange(4) % 3)
    noise = jnp.stack([jax.random.normal(key, (3,)) for key in keys])
    params = state.extra["ema"]["params"]["generator"]
    expected = generator.apply({"params": params}, noise, np.arange(4) % 3, train=False) / 2 + 0.5
    np.testing.assert_allclose(images, expected, rtol=1e-5)
    other = draw(state, keys, (np.arange(4) + 1) % 3)
    assert np.abs(images - other).max() > 1e-3  # the label changes the image


def test_an_evaluation_is_of_the_state_and_of_its_average():
    """Not twice of the average: without it the task says the same of the state."""
    task, batch = small(), batch_of()
    both = with_average(task, 0.5, submodule="generator")
    state = both.init(jax.random.key(0), batch)
    far = jax.tree.map(lambda values: values + 1, state.extra["ema"]["params"])
    state = state.replace(extra={**state.extra, "ema": {**state.extra["ema"], "params": far}})
    found = both.eval_step(state, batch, jax.random.key(1))
    plain = state.replace(extra={name: tree for name, tree in state.extra.items() if name != "ema"})
    for name, mean in task.eval_step(plain, batch, jax.random.key(1)).items():
        np.testing.assert_allclose(found[name].compute(), mean.compute(), rtol=1e-6)
    assert abs(found["d_fake"].compute() - found["ema_d_fake"].compute()) > 1e-3


@pytest.mark.parametrize("loss", [pytest.param("wasserstein", marks=pytest.mark.slow), "hinge"])
def test_one_device_is_eight(loss, digits, one_device, eight_devices):
    """State and metrics after three steps of two parts each, with every option there is."""
    arrays = {"image": digits.image[:, 3:5, 3:5].astype(np.float32) / 255, "label": digits.label % 3}
    train = train_batches(arrays, batch_size=32)
    test = eval_batches(arrays, batch_size=16, ids=np.arange(40))
    task = small(loss, classes=3, spectral_norm=loss == "hinge", penalty=float(loss == "wasserstein"), critic_steps=2)
    found = []
    for parallel in (one_device, eight_devices):
        program = compile_task(task, train, parallel=parallel)
        state, numbers = program.train(program.init(), 0, 3)
        found.append((jax.device_get(state), numbers, program.evaluate(state, test)))
    for ours, theirs in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_step_under_pmap_averages_over_the_devices(digits, eight_devices):
    """Without noise the step is that of the global batch."""
    arrays = {"image": digits.image[:, 3:5, 3:5].astype(np.float32) / 255, "label": digits.label}
    train = train_batches(arrays, batch_size=32)
    states = []
    for parallel in (eight_devices, data_parallel(parallel="pmap")):
        program = compile_task(by_hand("hinge", spectral_norm=True, critic_steps=2), train, parallel=parallel)
        states.append(program.train(program.init(), 0, 2))
    for ours, theirs in zip(*map(jax.tree.leaves, jax.device_get(states)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
