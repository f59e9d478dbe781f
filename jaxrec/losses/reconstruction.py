"""Losses of autoencoders: pure functions of the model's outputs and the batch that return per-example values.

The outputs are {"logits": [B, H, W, C], "code": [B, Z]}, and sigmoid(logits) is the reconstruction, in [0, 1]. What it
should be is batch["target"] where there is one, as in denoising, else batch["image"]. Sums over pixels are as papers
give them: the squared error of an image is not divided by its pixels unless the name says so.
"""

from collections.abc import Mapping

import dm_pix
import jax
import jax.numpy as jnp
import optax

from jaxrec.types import Array, Batch, NonNegative

WINDOW = 11  # pixels, of the structural similarity (Wang et al., 2004)


def squared_error(outputs: Mapping[str, Array], batch: Batch, *, sparsity: NonNegative = 0.0) -> Mapping[str, Array]:
    """The squared error of the reconstruction, summed over the pixels of an image.

    Args:
      outputs: of the model.
      batch: holds "image" [B, H, W, C] in [0, 1], or "target".
      sparsity: strength of the L1 penalty on the code, sparsity * sum |code|. A decoder's weights can grow as codes
        shrink, so it wants a decay of weights beside it, or tied ones.

    Returns:
      {"loss": [B], "squared_error": [B], "code_l1": [B]}.
    """
    measured = _measured(outputs, batch)
    return {"loss": measured["squared_error"] + sparsity * measured["code_l1"], **measured}


def pixel_cross_entropy(
    outputs: Mapping[str, Array], batch: Batch, *, sparsity: NonNegative = 0.0
) -> Mapping[str, Array]:
    """Binary cross-entropy of each pixel's logit against its value in [0, 1], summed over the image, in nats.

    The loss of Hinton and Salakhutdinov (2006). Between black and white it stays above 0 for a perfect reconstruction.

    Args:
      outputs: of the model.
      batch: holds "image" [B, H, W, C] in [0, 1], or "target".
      sparsity: as in `squared_error`.

    Returns:
      {"loss": [B], "squared_error": [B], "code_l1": [B]}.
    """
    measured = _measured(outputs, batch)
    nats = optax.sigmoid_binary_cross_entropy(outputs["logits"], target(batch)).sum((1, 2, 3))
    return {"loss": nats + sparsity * measured["code_l1"], **measured}


def fidelity(image: Array, original: Array) -> Mapping[str, Array]:
    """How near images are to their originals, both [B, H, W, C] in [0, 1]: what is reported besides the loss.

    Returns:
      `squared_error_per_pixel`: [B], the mean over pixels and channels.
      `psnr`: [B], the peak signal-to-noise ratio in decibels, 10 log10(1 / that mean); infinite where nothing differs.
      `ssim`: [B], the structural similarity (Wang et al., 2004), averaged over channels and the Gaussian windows of 11
        pixels that lie inside the image; of smaller images, windows are as large as their shorter side.
    """
    return {
        "squared_error_per_pixel": dm_pix.mse(image, original),
        "psnr": dm_pix.psnr(image, original),
        "ssim": dm_pix.ssim(image, original, filter_size=min(WINDOW, *image.shape[1:3])),
    }


def target(batch: Batch) -> Array:
    """What is to be reconstructed, [B, H, W, C] in [0, 1]."""
    return batch.get("target", batch["image"])


def _measured(outputs: Mapping[str, Array], batch: Batch) -> Mapping[str, Array]:
    """What every loss reports."""
    difference = jax.nn.sigmoid(outputs["logits"]) - target(batch)
    return {
        "squared_error": jnp.sum(jnp.square(difference), axis=(1, 2, 3)),
        "code_l1": jnp.sum(jnp.abs(outputs["code"]), axis=-1),
    }
