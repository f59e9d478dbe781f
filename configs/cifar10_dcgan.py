"""DCGAN (Radford et al., 2016) on CIFAR-10 with a full schedule, for a GPU.

    python launch.py --config=configs/cifar10_dcgan.py

Not run in full yet (n = 0): on 2 cores, at 43 images/s, it would take days. With a quarter of the channels, eight
minutes on one of 2 cores (549 images/s), its Frechet distance on validation fell from 201 after 250 steps to 50 after
2,000, that of the moving average from 184 to 45 (n = 1; docs/results.md has the commands). In its first 100 steps the
discriminator wins and the distance rises.
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
            "updates": {"ema": 0.999},
            "latent": 100,
        }
    )
