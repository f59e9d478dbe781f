"""Generative adversarial networks: the task of two networks that learn against each other.

The generator makes images of noise, the discriminator gives an image one number, its logit: the higher, the more real
it looks. The task is written by hand, of the same parts as others: two losses, two optimizers, one state.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxrec import metrics
from jaxrec.data.keys import NOISE, example_keys
from jaxrec.losses.adversarial import AdversarialLoss, gradient_penalty, squared_slope
from jaxrec.metrics import Metrics
from jaxrec.tasks import spectral
from jaxrec.tasks.average import averaged
from jaxrec.tasks.gradients import Gradient, Objective, at_once, in_parts, norm
from jaxrec.tasks.task import State, Task, descend
from jaxrec.types import Array, Batch, Count, Key, NonNegative, PyTree


def sampler(generator: nn.Module, latent: Count) -> Callable[[State, Array, Array | None], Array]:
    """Returns (state, keys [N], labels [N] or None) -> images [N, H, W, C] in [0, 1].

    A key is all that an image is drawn from. Where a state keeps a moving average, it is the average that draws.
    """

    def generate(state: State, keys: Array, label: Array | None = None) -> Array:
        return _drawn(generator, latent, averaged(state), keys, label)

    return generate


def adversarial_task(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: AdversarialLoss,
    *,
    tx_generator: optax.GradientTransformation,
    tx_discriminator: optax.GradientTransformation,
    latent: Count,
    critic_steps: Count = 1,
    spectral_norm: bool = False,
    penalty: NonNegative = 0.0,
    r1: NonNegative = 0.0,
    statistics: Callable[[Array, Batch], Metrics] | None = None,
    gradient: Callable[[Objective], Gradient] = at_once,
) -> Task:
    """The task of two networks that learn against each other. Each entry of its state is a dictionary of the two.

    A step cuts its batch into `critic_steps` parts. The discriminator takes a step on each, against new images, then
    the generator takes one, on as many images as a part has. The noise is drawn from the step's key; in evaluation
    each example draws from its own (`jaxrec.data.keys.example_keys`).

    Metrics of training and evaluation: `d_loss` and `g_loss`, without penalties; `d_real` and `d_fake`, the mean
    logits of real and of generated images; `d_accuracy`, the share of pairs of a real and a generated image in which
    the real one has the higher logit: 1/2 where the discriminator cannot tell. Of training alone: `d_gradient` and
    `g_gradient`, norms of the gradients over all parameters; `gradient_penalty` and `r1`, weighted, where there are.

    Args:
      generator: (noise [B, Z], label [B] or None, train) -> images [B, H, W, C] in [-1, 1]: `models.generators`.
      discriminator: (image in [-1, 1], label, train) -> logits [B], such as those of `models.critics`.
      loss: what they minimise.
      tx_generator: its optimizer.
      tx_discriminator: its optimizer.
      latent: Z, the size of the noise.
      critic_steps: steps of the discriminator for one of the generator.
      spectral_norm: whether the discriminator's matrices are divided by their largest singular value.
      penalty: the weight of the gradient penalty in the discriminator's loss; its paper has 10.
      r1: the weight r of the penalty r / 2 times the squared slope at real images (Mescheder et al., 2018, equation 9).
      statistics: more metrics of an evaluation, of the generated images in [0, 1], a row for each of the batch's real
        ones, and the batch.
      gradient: how both gradients are taken, such as `accumulated(4)`; see `jaxrec.tasks.gradients`.

    Raises:
      InputError: in a step, where critic_steps does not divide the batch.
    """

    def make(params: PyTree, extra: PyTree, key: Key, batch: Batch) -> tuple[Array, PyTree]:
        noise, label = jax.random.normal(key, (len(batch["image"]), latent)), batch.get("label")
        rngs = {"dropout": jax.random.fold_in(key, 1)}
        return generator.apply({"params": params, **extra}, noise, label, train=True, rngs=rngs, mutable=list(extra))

    def judge(
        params: PyTree, extra: PyTree, image: Array, label: Array | None, key: Key | None = None
    ) -> tuple[Array, PyTree]:
        """Logits, and what is collected; with a key as in training, by which dropout draws."""
        train = key is not None
        collections = {name: tree for name, tree in extra.items() if name != "spectral"}
        params = spectral.normalise(params, extra["spectral"]) if spectral_norm else params
        variables, mutable = {"params": params, **collections}, list(collections) if train else []
        rngs = {"dropout": key} if train else {}
        logits, collections = discriminator.apply(variables, image, label, train=train, rngs=rngs, mutable=mutable)
        return logits, {**extra, **collections}

    def compare(real: Array, fake: Array) -> dict[str, Array]:
        found = {"d_loss": loss.discriminator(real, fake), "g_loss": loss.generator(fake)}
        return {**found, "d_real": real, "d_fake": fake, "d_accuracy": real > fake}

    def init(key: Key, batch: Batch) -> State:
        keys = dict(zip(("generator", "discriminator", "spectral"), jax.random.split(key, 3), strict=True))
        inputs = {"generator": jnp.zeros((len(batch["image"]), latent)), "discriminator": batch["image"]}
        params, extra = {}, {}
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            extra[name] = dict(network.init(keys[name], inputs[name], batch.get("label"), train=False))
            params[name] = extra[name].pop("params")
        if spectral_norm:
            extra["discriminator"]["spectral"] = spectral.first_vectors(params["discriminator"], keys["spectral"])
        opt_state = {
            "generator": tx_generator.init(params["generator"]),
            "discriminator": tx_discriminator.init(params["discriminator"]),
        }
        return State(jnp.zeros((), jnp.int32), params, opt_state, extra)

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        def criticise(carry: tuple, inputs: tuple[Batch, Key]) -> tuple[tuple, Metrics]:
            params, opt_state, extra = carry
            part, key = inputs
            count = jnp.sum(part["mask"], dtype=jnp.float32)
            if spectral_norm:
                extra = {**extra, "spectral": spectral.power_iteration(params, extra["spectral"])}

            def objective(params: PyTree, extra: PyTree, part: Batch, key: Key) -> tuple[Array, tuple[PyTree, Metrics]]:
                key, mix = jax.random.split(key)
                keys = [jax.random.fold_in(mix, index) for index in (1, 2, 3)]
                real, label = 2 * part["image"] - 1, part.get("label")
                fake, _ = make(state.params["generator"], state.extra["generator"], key, part)

                def critic(image: Array) -> Array:
                    return judge(params, extra, image, label, keys[0])[0]

                # Real and generated images are batches of their own, also to a batch norm's statistics.
                on_real, seen = judge(params, extra, real, label, keys[1])
                on_fake, seen = judge(params, seen, fake, label, keys[2])
                values = compare(on_real, on_fake)
                del values["g_loss"]  # the generator has not taken its step yet
                if penalty:
                    values["gradient_penalty"] = penalty * gradient_penalty(critic, real, fake, mix)
                if r1:
                    values["r1"] = r1 / 2 * squared_slope(critic, real)
                minimised = [name for name in ("d_loss", "gradient_penalty", "r1") if name in values]
                means = metrics.means(values, part["mask"])
                return sum(means[name].total / count for name in minimised), (seen, means)

            def taken(params: PyTree) -> tuple[PyTree, tuple[PyTree, Metrics]]:
                return gradient(objective)(params, extra, part, key)

            params, opt_state, (extra, means), grads = descend(taken, tx_discriminator, params, opt_state)
            return (params, opt_state, extra), {**means, "d_gradient": norm(grads)}

        keys = jax.random.split(key, critic_steps + 1)
        parts = in_parts(batch, critic_steps, f"critic_steps = {critic_steps}")
        first = tuple(tree["discriminator"] for tree in (state.params, state.opt_state, state.extra))
        # Unrolled: within a loop XLA's CPU compiler is slow at the convolutions of a penalty's gradient.
        critic, found = jax.lax.scan(criticise, first, (parts, keys[1:]), unroll=True)
        last = jax.tree.map(lambda rows: rows[-1], parts)

        count = jnp.sum(last["mask"], dtype=jnp.float32)

        def objective(params: PyTree, extra: PyTree, part: Batch, key: Key) -> tuple[Array, tuple[PyTree, Metrics]]:
            fake, extra = make(params, extra, key, part)
            logits, _ = judge(critic[0], critic[2], fake, part.get("label"), jax.random.fold_in(key, 2))
            means = metrics.means({"g_loss": loss.generator(logits)}, part["mask"])
            return means["g_loss"].total / count, (extra, means)

        def taken(params: PyTree) -> tuple[PyTree, tuple[PyTree, Metrics]]:
            return gradient(objective)(params, state.extra["generator"], last, keys[0])

        before = state.params["generator"], state.opt_state["generator"]
        params, opt_state, (extra, means), grads = descend(taken, tx_generator, *before)
        new = [
            {"generator": ours, "discriminator": theirs}
            for ours, theirs in zip((params, opt_state, extra), critic, strict=True)
        ]
        found = jax.tree.map(lambda values: values.sum(0), found)
        return State(state.step + 1, *new), {**found, **means, "g_gradient": norm(grads)}

    def eval_step(state: State, batch: Batch, key: Key) -> Metrics:
        del key  # what is drawn in evaluation, an example draws from its own
        label = batch.get("label")
        fake = _drawn(generator, latent, state, example_keys(batch, stream=NOISE), label)
        on_real, on_fake = (
            judge(state.params["discriminator"], state.extra["discriminator"], 2 * image - 1, label)[0]
            for image in (batch["image"], fake)
        )
        means = metrics.means(compare(on_real, on_fake), batch["mask"])
        return {**means, **statistics(fake, batch)} if statistics else means

    return Task(init, train_step, eval_step)


def _drawn(generator: nn.Module, latent: Count, state: State, keys: Array, label: Array | None) -> Array:
    """Images [N, H, W, C] in [0, 1] of the state's own parameters, not their average."""
    variables = {"params": state.params["generator"], **state.extra["generator"]}
    noise = jax.vmap(lambda key: jax.random.normal(key, (latent,)))(keys)
    return (generator.apply(variables, noise, label, train=False) + 1) / 2
