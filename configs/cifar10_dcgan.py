"""DCGAN (Radford et al., 2016) on CIFAR-10 with a full schedule, for a GPU.

    python launch.py --config=configs/cifar10_dcgan.py

Not run in full yet (n = 0): on 2 cores it would take days. In its first 100 steps, on one core at 43 images/s, the
discriminator wins, and the distance of pixels on 1,000 images of validation does not fall yet (286 after 50, 381 after
100 steps; that of the moving average 238 and 235).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/gan.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "gan",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 250},
            "data": {"name": "tfds", "dataset": "cifar10", "validation": 0.1},
            "generator": {"name": "ConvDecoder", "widths": (512, 256, 128), "norm": "batch"},
            "discriminator": {"name": "ConvCritic", "widths": (128, 256, 512), "norm": "batch"},
            "loss": {"name": "non_saturating"},
            "optimizer": {"name": "adam", "learning_rate": 2e-4, "b1": 0.5},
            "latent": 100,
            "ema": 0.999,
        }
    )
