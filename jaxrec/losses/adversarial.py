"""What two networks that learn against each other minimise, and penalties on the slope of the one that judges.

The discriminator gives an image one number, its logit: the higher, the more real it looks.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrec import layers
from jaxrec.types import Array, Key


class AdversarialLoss(NamedTuple):
    """What each of the two minimises, as pure functions of logits [B] to values [B]; never averaged in here."""

    discriminator: Callable[[Array, Array], Array]  # of the logits of real and of generated images
    generator: Callable[[Array], Array]  # of the logits of generated images


def minimax() -> AdversarialLoss:
    """The game of Goodfellow et al. (2014, equation 1), with D the sigmoid of the logit.

    The discriminator minimises L = (L_real + L_fake) / 2, L_real = -log D(real), L_fake = -log(1 - D(fake)), the
    generator log(1 - D(fake)), which saturates where the discriminator is sure. Where neither can gain, D = 1/2 and
    the losses are log 2 and -log 2.
    """
    return AdversarialLoss(
        lambda real, fake: (jax.nn.softplus(-real) + jax.nn.softplus(fake)) / 2, lambda fake: -jax.nn.softplus(fake)
    )


def non_saturating() -> AdversarialLoss:
    """The discriminator of `minimax`; the generator minimises -log D(fake) (Goodfellow et al., 2014, section 3)."""
    return AdversarialLoss(minimax().discriminator, lambda fake: jax.nn.softplus(-fake))


def least_squares() -> AdversarialLoss:
    """Half the squared distance of the logit from 1 for real and 0 for generated images (Mao et al., 2017, equation 9).

    The generator minimises half the squared distance from 1.
    """
    return AdversarialLoss(
        lambda real, fake: (jnp.square(real - 1) + jnp.square(fake)) / 2, lambda fake: jnp.square(fake - 1) / 2
    )


def wasserstein() -> AdversarialLoss:
    """The difference of the logits, fake - real, and -fake for the generator (Arjovsky et al., 2017).

    Minus the discriminator's loss estimates Wasserstein's distance as far as its slope is 1 everywhere: what the
    gradient penalty is for.
    """
    return AdversarialLoss(lambda real, fake: fake - real, lambda fake: -fake)


def hinge() -> AdversarialLoss:
    """max(0, 1 - real) + max(0, 1 + fake), and -fake for the generator (Lim and Ye, 2017; Miyato et al., 2018)."""
    return AdversarialLoss(lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake), lambda fake: -fake)


def squared_slope(critic: Callable[[Array], Array], image: Array) -> Array:
    """The squared norm of each logit's gradient along its own image: [B], of `critic` [B, H, W, C] -> [B]."""
    with layers.second_order():
        slope = jax.grad(lambda image: jnp.sum(critic(image)))(image)
    return jnp.sum(jnp.square(slope), axis=(1, 2, 3))


def gradient_penalty(critic: Callable[[Array], Array], real: Array, fake: Array, key: Key) -> Array:
    """How far the slope is from 1, squared, at a random point between each real and generated image: [B].

    Gulrajani et al. (2017, equation 3), without its factor of 10.
    """
    share = jax.random.uniform(key, (len(real), 1, 1, 1))
    squared = squared_slope(critic, share * real + (1 - share) * fake)
    return jnp.square(jnp.sqrt(jnp.maximum(squared, 1e-12)) - 1)  # the root of 0 has no gradient
