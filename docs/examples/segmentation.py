"""A U-Net (Ronneberger et al., 2015) finds discs and rectangles; augmentation turns their masks with the images.

    python docs/examples/segmentation.py

Measured on 1,024 test images, n = 3: mean intersection over union 0.829 ± 0.004, of discs 0.68, of rectangles 0.82.
"""

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxrec import Mean, augment, compile_task, eval_batches, fit, from_loss, layers, train_batches
from jaxrec.data.transforms import augmented


def shapes(seed: int, count: int = 1024) -> dict[str, np.ndarray]:
    """Noisy images [N, 16, 16, 1], and masks [N, 16, 16]: 1 on a disc, 2 on a rectangle before it, else 0."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:16, :16]
    y, x, top, left = rng.integers(2, 14, (4, count, 1, 1))
    radius, height, width = rng.uniform(3, 6, (3, count, 1, 1))
    mask = np.where((abs(row - top) < height) & (abs(column - left) < width), 2, np.hypot(row - y, column - x) < radius)
    return {"image": np.float32(rng.normal(0.3 + 0.4 * (mask > 0), 0.1))[..., None], "segmentation_mask": mask}


class UNet(nn.Module):
    """Maps images [B, H, W, C] to logits [B, H, W, 3]. A convolution of two maps side by side is a sum of two."""

    @nn.compact
    def __call__(self, image, *, train):
        full = nn.relu(layers.Conv(16, (3, 3))(image))
        half = nn.relu(layers.Conv(32, (3, 3))(layers.max_pool(full, (2, 2), (2, 2))))
        quarter = nn.relu(layers.Conv(64, (3, 3))(layers.max_pool(half, (2, 2), (2, 2))))
        half = nn.relu(layers.Conv(32, (3, 3))(half) + layers.ConvTranspose(32, (3, 3), (2, 2))(quarter))
        full = nn.relu(layers.Conv(16, (3, 3))(full) + layers.ConvTranspose(16, (3, 3), (2, 2))(half))
        return layers.Conv(3, (1, 1))(full)


def loss(logits, batch):
    """The cross-entropy of the pixels of an image."""
    return {"loss": optax.softmax_cross_entropy_with_integer_labels(logits, batch["segmentation_mask"]).mean((1, 2))}


def overlap(logits, batch):
    """Intersection over union of each class, [3]: both are sums over the split."""
    both = nn.one_hot(jnp.stack([logits.argmax(-1), batch["segmentation_mask"]]), 3)  # [2, B, H, W, 3]
    return {"iou": Mean(*(jnp.einsum("bhwk,b->k", each, batch["mask"]) for each in (both.min(0), both.max(0))))}


def main(*, steps: int = 2000, seed: int = 0) -> dict[str, float]:
    """Trains; returns the intersection over union of each class on test images, and their mean."""
    train = train_batches(shapes(0), batch_size=32, seed=seed, transform=augmented([augment.random_rotation]))
    program = compile_task(from_loss(UNet(), loss, optax.adam(3e-3), statistics=overlap), train, seed=seed)
    iou = program.evaluate(fit(program, steps=steps), eval_batches(shapes(1), batch_size=32))["iou"].tolist()
    return {"mean_iou": sum(iou) / 3, "background": iou[0], "disc": iou[1], "rectangle": iou[2]}


if __name__ == "__main__":
    print(main())
