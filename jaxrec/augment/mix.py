"""Images of a batch mixed in pairs, inside the compiled step: mixup and CutMix.

Row i is paired with row i + 1, the last with the first. The batch is shuffled, anew in each epoch, so neighbours are
random partners already: drawing a permutation would add nothing but a gather, and across devices rolling moves one row
where a permutation moves all of them. (What each pair is mixed by is drawn for each row, not once for a batch.)

The label becomes three values: "label" [B] of the row's own image, "other_label" [B] of its partner, and "share" [B],
float32, how much of the mixed image is the own. A loss takes share * loss(label) + (1 - share) * loss(other_label).

What lies on the images, a segmentation mask or boxes, has no such mixture here: batches that have it are refused.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrec.augment.geometry import ON_IMAGE
from jaxrec.augment.noise import rectangle
from jaxrec.errors import InputError
from jaxrec.types import Array, Batch, Key, Positive, Rate


def mixup(batch: Batch, keys: Key, *, alpha: Positive = 0.2) -> Batch:
    """Mixes all pixels of a pair by one share. Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization".

    Args:
      batch: "image" [B, H, W, C], "label" [B]; whatever else it holds is passed on.
      keys: [B], of the shares.
      alpha: the share is drawn from Beta(alpha, alpha): mostly near 0 and 1 where alpha is small, evenly at 1.

    Returns:
      The batch with mixed "image", and with "other_label" and "share".

    Raises:
      InputError: the batch has no "label", or a "segmentation_mask" or "boxes".
    """
    height, width = batch["image"].shape[1:3]
    return _mixed("mixup", batch, keys, lambda key: _even(key, height, width, alpha))


def cutmix(batch: Batch, keys: Key, *, alpha: Positive = 1.0) -> Batch:
    """Pastes a rectangle of the partner in its place. Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong
    Classifiers with Localizable Features".

    The rectangle has the image's proportions and an area of 1 - a draw from Beta(alpha, alpha); its centre is drawn
    evenly from all pixels, and what reaches outside is cut off. "share" is the share of the pixels that are left.

    Arguments, result and what is refused as in `mixup`.
    """
    height, width = batch["image"].shape[1:3]
    return _mixed("cutmix", batch, keys, lambda key: _pasted(key, height, width, alpha))


def mixup_or_cutmix(
    batch: Batch,
    keys: Key,
    *,
    mixup_alpha: Positive = 0.8,
    cutmix_alpha: Positive = 1.0,
    cutmix_share: Rate = 0.5,
) -> Batch:
    """Treats each row by `mixup` or by `cutmix`, which is drawn.

    Args:
      batch: as in `mixup`.
      keys: [B].
      mixup_alpha: as in `mixup`.
      cutmix_alpha: as in `cutmix`.
      cutmix_share: how often it is CutMix.
    """
    height, width = batch["image"].shape[1:3]

    def one(key: Key) -> Array:
        which, key = jax.random.split(key)
        even, pasted = _even(key, height, width, mixup_alpha), _pasted(key, height, width, cutmix_alpha)
        return jnp.where(jax.random.bernoulli(which, cutmix_share), pasted, even)

    return _mixed("mixup_or_cutmix", batch, keys, one)


def _even(key: Key, height: int, width: int, alpha: float) -> Array:
    """The own image's weight [H, W, 1] at each pixel: the same everywhere."""
    return jnp.broadcast_to(jax.random.beta(key, alpha, alpha), (height, width, 1))


def _pasted(key: Key, height: int, width: int, alpha: float) -> Array:
    """The own image's weight [H, W, 1] at each pixel: 0 in a rectangle, 1 outside."""
    share, place = jax.random.split(key)
    side = jnp.sqrt(1 - jax.random.beta(share, alpha, alpha))  # of the rectangle, by that of the image
    size = jnp.array([height, width])
    rows, columns = jnp.round(side * size).astype(jnp.int32)
    top, left = jax.random.randint(place, (2,), 0, size) - jnp.array([rows, columns]) // 2
    return jnp.where(rectangle(height, width, top, left, rows, columns), 0.0, 1.0)


def _mixed(name: str, batch: Batch, keys: Key, weigh: Callable[[Key], Array]) -> Batch:
    """The batch mixed with its neighbours by what is called `name`: key -> the own image's weight [H, W, 1]."""
    if there := [key for key in ON_IMAGE if key in batch]:
        raise InputError(
            f"{name} mixes pairs of images and their labels, not what lies on them, and the batch has "
            f"{' and '.join(there)}: leave {name} out."
        )
    if "label" not in batch:
        raise InputError(
            f"{name} mixes pairs of images and their labels, and the batch has no label: leave {name} out."
        )
    image, label, weight = batch["image"], batch["label"], jax.vmap(weigh)(keys)
    return {
        **batch,
        "image": image * weight + jnp.roll(image, -1, axis=0) * (1 - weight),
        "other_label": jnp.roll(label, -1, axis=0),
        "share": weight.mean((1, 2, 3)),
    }
