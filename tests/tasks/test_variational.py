"""Likelihoods, bounds and the sampled log likelihood, against closed forms, quadrature and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxrec import metrics
from jaxrec.data.keys import NOISE, example_keys
from jaxrec.losses import variational
from jaxrec.models.decoders import DenseDecoder
from jaxrec.models.mlp import MLP
from jaxrec.models.vae import DenseVAE
from jaxrec.tasks.average import with_average
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State
from jaxrec.tasks.variational import Spread, active_units, collapse, negative_log_likelihood

SHAPE = (2, 3, 1)


def random_outputs(codes: int = 4, examples: int = 3, latent: int = 2) -> dict[str, np.ndarray]:
    """Of a model, for images of SHAPE."""
    rng = np.random.default_rng(0)
    mean, log_var = rng.normal(size=(2, examples, latent))
    noise = rng.normal(size=(examples, codes, latent))
    return {
        "mean": mean,
        "log_var": log_var,
        "code": mean[:, None] + np.exp(log_var / 2)[:, None] * noise,
        "logits": rng.normal(size=(examples, codes, *SHAPE)),
        "log_scale": np.array(-0.7),
    }


def random_image(examples: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2, (examples, *SHAPE)).astype(np.float32)


def keys(batch):
    return example_keys({**batch, "seed": jnp.full_like(batch["id"], 3)}, stream=NOISE)


# The divergence.


def test_divergence_against_quadrature():
    mean, log_var = np.array([[0.0, 1.3], [-2.0, 0.1]]), np.array([[0.0, -2.0], [1.0, 0.5]])
    z = np.linspace(-20, 20, 200_001)
    posterior = stats.norm(mean[..., None], np.exp(log_var / 2)[..., None])
    integrand = posterior.pdf(z) * (posterior.logpdf(z) - stats.norm.logpdf(z))
    by_unit = integrand.sum(-1) * (z[1] - z[0])
    np.testing.assert_allclose(variational.divergence(mean, log_var), by_unit.sum(1), rtol=1e-5, atol=1e-6)


def test_divergence_is_the_mean_of_sampled_ones():
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=3), rng.uniform(0.3, 1.5, 3)
    z = mean + std * rng.normal(size=(200_000, 3))
    sampled = (stats.norm(mean, std).logpdf(z) - stats.norm.logpdf(z)).sum(1)
    error = sampled.std() / len(z) ** 0.5
    assert abs(variational.divergence(mean, 2 * np.log(std)) - sampled.mean()) < 4 * error


# Likelihoods: log_prob(logits, image, log_scale).


def test_bernoulli():
    logits, image = random_outputs()["logits"], random_image()
    likelihood = variational.bernoulli()
    expected = stats.bernoulli(1 / (1 + np.exp(-logits))).logpmf(image[:, None]).sum((2, 3, 4))
    np.testing.assert_allclose(likelihood.log_prob(logits, image[:, None], None), expected, rtol=1e-5)
    far = likelihood.log_prob(np.full((1, *SHAPE), 1e4), np.zeros((1, *SHAPE)), None)
    np.testing.assert_allclose(far, -6e4, rtol=1e-6)  # no infinity where the sigmoid is 1


def test_gaussian():
    logits, image = random_outputs()["logits"], random_image()
    expected = stats.norm(logits, 0.3).logpdf(image[:, None]).sum((2, 3, 4))
    for likelihood, log_scale in ((variational.gaussian(std=0.3), None), (variational.gaussian(), np.log(0.3))):
        assert likelihood.scaled == (log_scale is not None)
        np.testing.assert_allclose(likelihood.log_prob(logits, image[:, None], log_scale), expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [2e-3, 0.05, 3.0])
@pytest.mark.parametrize("centre", [-0.3, 0.0, 0.503, 1.2])
def test_discretised_logistic_is_a_distribution_of_bytes(centre, scale):
    image = (np.arange(256) / 255).reshape(-1, 1, 1, 1).astype(np.float32)
    logits = np.full((1, 1, 1, 1), centre, np.float32)
    likelihood = variational.discretised_logistic(scale=scale)
    log_p = np.asarray(likelihood.log_prob(logits, image, None), np.float64)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1, rtol=1e-4)
    edges = np.r_[-np.inf, (np.arange(255) + 0.5) / 255, np.inf]
    mass = np.diff(stats.logistic.cdf(edges, np.float32(centre), scale))
    np.testing.assert_allclose(np.exp(log_p), mass, rtol=2e-3, atol=1e-9)
    learned = variational.discretised_logistic().log_prob(logits, image, np.log(np.float32(scale)))
    np.testing.assert_allclose(learned, log_p, rtol=1e-4, atol=1e-4)
    assert np.isfinite(log_p).all()


# Bounds.


def numpy_weights(outputs: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """log p(x|z) + log p(z) - log q(z|x), [B, S], of Bernoulli pixels."""
    code = outputs["code"]
    posterior = stats.norm(outputs["mean"][:, None], np.exp(outputs["log_var"] / 2)[:, None])
    pixels = stats.bernoulli(1 / (1 + np.exp(-outputs["logits"]))).logpmf(image[:, None]).sum((2, 3, 4))
    return pixels + (stats.norm.logpdf(code) - posterior.logpdf(code)).sum(-1)


def test_elbo_is_the_sum_of_its_terms_over_dimensions():
    outputs, image = random_outputs(), random_image()
    values = variational.elbo(variational.bernoulli(), beta=0.5)(outputs, {"image": image})
    pixels = stats.bernoulli(1 / (1 + np.exp(-outputs["logits"]))).logpmf(image[:, None]).sum((2, 3, 4)).mean(1)
    kl = 0.5 * (outputs["mean"] ** 2 + np.exp(outputs["log_var"]) - 1 - outputs["log_var"]).sum(1)
    expected = {"reconstruction": -pixels, "kl": kl, "elbo": pixels - kl, "loss": 0.5 * kl - pixels}
    assert set(values) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-5)


def test_bits_per_dimension_are_of_bytes_alone():
    outputs, batch = random_outputs(), {"image": random_image()}
    for objective in (variational.elbo, variational.iwae):
        assert "bits_per_dim" not in objective(variational.gaussian())(outputs, batch)
        values = objective(variational.discretised_logistic())(outputs, batch)
        np.testing.assert_allclose(values["bits_per_dim"], values["loss"] / (6 * np.log(2)), rtol=1e-6)


def test_the_divergence_warms_up_by_epochs():
    outputs, image = random_outputs(examples=5), random_image(5)
    loss = variational.elbo(variational.bernoulli(), beta=2.0, warmup=4)
    values = loss(outputs, {"image": image, "epoch": np.array([0, 1, 2, 4, 100])})
    weights = (values["loss"] - values["reconstruction"]) / values["kl"]
    np.testing.assert_allclose(weights, [0, 0.5, 1, 2, 2], rtol=1e-4, atol=1e-5)
    evaluated = loss(outputs, {"image": image})
    np.testing.assert_allclose(evaluated["loss"], values["reconstruction"] + 2 * values["kl"], rtol=1e-5)


def test_iwae_is_the_log_of_the_mean_weight():
    outputs, image = random_outputs(), random_image()
    values = variational.iwae(variational.bernoulli())(outputs, {"image": image})
    expected = -np.log(np.exp(numpy_weights(outputs, image)).mean(1))
    np.testing.assert_allclose(values["loss"], expected, rtol=1e-5)


def test_iwae_of_one_code_is_the_elbo():
    """Exactly so in the mean over the codes mean + std and mean - std, whose first two moments are the posterior's."""
    outputs, batch = random_outputs(codes=2), {"image": random_image()}
    std = np.exp(outputs["log_var"] / 2)
    outputs["code"] = outputs["mean"][:, None] + std[:, None] * np.array([1, -1]).reshape(1, 2, 1)
    one_code = [
        variational.iwae(variational.bernoulli())(
            {**outputs, **{name: outputs[name][:, index : index + 1] for name in ("code", "logits")}}, batch
        )["loss"]
        for index in range(2)
    ]
    bound = variational.elbo(variational.bernoulli())(outputs, batch)["loss"]
    np.testing.assert_allclose(np.mean(one_code, axis=0), bound, rtol=1e-6)


def test_beta_0_without_noise_is_the_autoencoder():
    """Loss and gradient are those of a plain autoencoder on the same parameters; the log variance gets none."""
    model, image = DenseVAE(shape=SHAPE, widths=(5,), latent=2), random_image()
    params = jax.jit(lambda: model.init(jax.random.key(0), image, None, train=False)["params"])()
    loss = variational.elbo(variational.bernoulli(), beta=0.0)

    def as_vae(params, keys):
        return loss(model.apply({"params": params}, image, keys, train=True), {"image": image})["loss"].sum()

    def as_autoencoder(params):
        code = MLP(classes=4, widths=(5,), activation="tanh").apply({"params": params["encoder"]}, image, train=True)
        decoder = DenseDecoder(shape=SHAPE, widths=(5,), activation="tanh")
        logits = decoder.apply({"params": params["decoder"]}, code[:, :2], train=True)
        return optax.sigmoid_binary_cross_entropy(logits, image).sum()

    expected, found = jax.jit(
        lambda params: (jax.value_and_grad(as_autoencoder)(params), jax.value_and_grad(as_vae)(params, None))
    )(params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), found, expected)
    assert not found[1]["encoder"]["Dense_1"]["kernel"][:, 2:].any()
    assert found[1]["encoder"]["Dense_1"]["kernel"][:, :2].any()
    # A variance of e^-60 leaves no noise of the keys' draws either.
    params["encoder"]["Dense_1"]["bias"] = jnp.array([0.0, 0.0, -60.0, -60.0])
    drawn = jax.random.split(jax.random.key(1), len(image))
    with_noise, without = jax.jit(lambda params: (as_vae(params, drawn), as_vae(params, None)))(params)
    np.testing.assert_allclose(with_noise, without, rtol=1e-6)


# The log likelihood by sampling: a linear decoder with Gaussian noise has p(x) = N(b, W^T W + s^2).

STD = 0.5
WEIGHT = np.array([[1.0, 2.0, 0.0, -1.0, 0.5, 0.0], [2.0, -1.0, 0.3, 0.0, 0.0, 1.0]])  # [Z, D], rows orthogonal
OFFSET = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def linear_state(shift: float = 0.0, widen: float = 1.0) -> State:
    """Whose q(z|x) is the true posterior, or off by this much."""
    precision = (WEIGHT**2).sum(1) + STD**2  # W W^T + s^2, which is diagonal
    kernel = np.concatenate([WEIGHT.T / precision, np.zeros((6, 2))], axis=1)
    bias = np.r_[shift - OFFSET @ kernel[:, :2], np.log(widen * STD**2 / precision)]
    params = {
        "encoder": {"Dense_0": {"kernel": kernel, "bias": bias}},
        "decoder": {"Dense_0": {"kernel": WEIGHT, "bias": OFFSET}},
    }
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    return State(jnp.zeros((), jnp.int32), params, {}, {})


LINEAR = DenseVAE(shape=SHAPE, widths=(), latent=2)


def rows_of(ids) -> dict[str, np.ndarray]:
    """Draws of that p(x), padded where the id is -1."""
    rng = np.random.default_rng(5)
    image = rng.normal(size=(6, 2)) @ WEIGHT + OFFSET + STD * rng.normal(size=(6, 6))
    ids = np.array(ids)
    return {"image": image.reshape(-1, *SHAPE)[ids].astype(np.float32), "id": ids, "mask": ids >= 0}


def nll(state: State, parts=((0, 1, 2, 3, 4, 5),), **options) -> float:
    measure = negative_log_likelihood(LINEAR, variational.gaussian(std=STD), keys=keys, **options)
    return metrics.compute([jax.jit(measure)(state, rows_of(ids), jax.random.key(0)) for ids in parts])["nll"]


def exact() -> float:
    marginal = stats.multivariate_normal(OFFSET, WEIGHT.T @ WEIGHT + STD**2 * np.eye(6))
    return -marginal.logpdf(rows_of(range(6))["image"].reshape(6, -1)).mean()


def test_nll_under_the_true_posterior_is_exact_with_any_number_of_codes():
    np.testing.assert_allclose(nll(linear_state(), samples=3, chunk=2), exact(), rtol=1e-5)


def test_nll_under_another_posterior_is_within_the_error_of_sampling():
    off = linear_state(shift=0.15, widen=1.5)
    estimate = nll(off, samples=5000)
    np.testing.assert_allclose(estimate, exact(), atol=0.03)  # four times the error, 0.02 / sqrt(6 images)
    assert nll(off, samples=1) > exact() + 0.1  # the bound of one code is far from it


def test_chunks_and_batches_change_no_nll():
    off = linear_state(shift=0.15, widen=1.5)
    whole = nll(off, samples=100, chunk=100)
    np.testing.assert_allclose(nll(off, samples=100, chunk=30), whole, rtol=1e-6)
    parts = nll(off, parts=((0, 1, 2, 3), (4, 5, -1, -1)), samples=100, chunk=30)
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    average = off.replace(extra={"ema": {"params": linear_state().params, "extra": {}}})
    np.testing.assert_allclose(nll(average, samples=3), exact(), rtol=1e-5)  # measured is the average


def test_evaluation_does_not_depend_on_batches():
    task = from_loss(
        LINEAR,
        variational.iwae(variational.gaussian(std=STD)),
        optax.sgd(0.1),
        call=lambda model, batch, train: model(batch["image"], keys(batch), train=train, samples=3),
        statistics=active_units,
    )
    task = with_average(task, 0.5)
    state = jax.jit(task.init)(jax.random.key(0), rows_of(range(6)))
    step = jax.jit(task.eval_step)

    def numbers(*parts):
        return metrics.compute([step(state, rows_of(ids), jax.random.key(7)) for ids in parts])

    whole, parts = numbers(range(6)), numbers((3, 0, 5, 1), (4, 2, -1, -1))
    assert {"loss", "elbo", "kl", "reconstruction", "active_units", "ema_active_units"} <= set(whole)
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-5)


# Active units.


def test_active_units_count_by_the_variance_over_the_data():
    rng = np.random.default_rng(0)
    mean = (7 + rng.normal(size=(40, 3)) * [0.05, 0.3, 1.0]).astype(np.float32)
    mask = np.arange(40) < 37
    mean[~mask] = np.nan
    parts = [
        active_units({"mean": mean[rows]}, {"mask": mask[rows]})[""]
        for rows in (slice(0, 8), slice(8, 32), slice(32, 40))
    ]
    merged = Spread.merge(jax.device_get(parts))
    np.testing.assert_allclose(merged.squares / merged.count, mean[mask].var(0, dtype=np.float64), rtol=1e-5)
    assert merged.compute() == {"active_units": 2.0}

    def on_a_device(mean, mask):
        return active_units({"mean": mean}, {"mask": mask})[""].across("devices")

    each = jax.vmap(on_a_device, axis_name="devices")(mean.reshape(8, 5, 3), mask.reshape(8, 5))
    devices = jax.tree.map(lambda value: value[0], each)
    np.testing.assert_allclose(devices.squares / devices.count, merged.squares / merged.count, rtol=1e-4)
    assert np.isnan(merged._replace(squares=merged.squares * np.nan).compute()["active_units"])


@pytest.mark.parametrize(
    ("active", "latent", "fires"),
    [(0, 2, True), (1, 2, False), (0, 50, True), (2, 50, True), (3, 50, False), (np.nan, 50, False)],
)
def test_what_counts_as_a_collapse(active, latent, fires):
    said = collapse(active, latent)
    assert (said is not None) == fires
    if fires:
        assert f"posterior collapse: {active} of {latent} units" in said


def test_a_decoder_that_ignores_the_code_collapses_and_one_that_hears_it_does_not():
    """The same training twice, but that the code reaches the decoder times 0 or 1."""
    model = DenseVAE(shape=SHAPE, widths=(16,), latent=2)

    def call(model, batch, train):
        outputs = model(batch["image"], keys(batch), train=train)
        heard = outputs["code"] * batch["heard"].reshape(-1, 1, 1)
        return {**outputs, **model.decode(heard, train=train)}

    loss = variational.elbo(variational.bernoulli())
    task = from_loss(model, loss, optax.adam(0.02), call=call, statistics=active_units)
    two_kinds = np.random.default_rng(0).integers(0, 2, (32, 1, 1, 1)) * np.ones((1, *SHAPE))

    @jax.jit
    def trained(heard):
        batch = {
            "image": jnp.asarray(two_kinds, jnp.float32),
            "id": jnp.arange(32),
            "mask": jnp.ones(32, bool),
            "heard": jnp.full(32, heard),
        }

        def step(epoch, state):
            return task.train_step(state, {**batch, "epoch": jnp.full(32, epoch)}, jax.random.key(0))[0]

        state = jax.lax.fori_loop(0, 300, step, task.init(jax.random.key(0), batch))
        return task.eval_step(state, batch, jax.random.key(0))

    said = [collapse(metrics.compute([trained(heard)])["active_units"], 2) for heard in (0.0, 1.0)]
    assert "posterior collapse: 0 of 2 units" in said[0]
    assert said[1] is None
