"""A generative adversarial network on scikit-learn's handwritten digits (1,797 images of 8x8 pixels), told the class.

    python launch.py --config=configs/digits_gan.py

Two samples of a class differ by 94 % of what two held-out digits of a class differ by, 0.262 against 0.279, and are as
far from the nearest training image as held-out digits, 0.130 against 0.132: neither collapsed nor copied (n = 1 seed).
20 seconds from the command to the last picture on a machine with 2 cores, nothing compiled before.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/gan.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "gan",
            "seed": 0,
            "train": {"batch_size": 64, "steps": 3000, "log_every": 100, "eval_every": 300},
            "data": {"name": "digits", "validation": 0.1},
            "generator": {"name": "DenseDecoder", "widths": (256, 256), "activation": "leaky_relu"},
            "discriminator": {"name": "DenseCritic", "widths": (256, 256)},
            "loss": {"name": "non_saturating"},
            "r1": 0.3,
            "optimizer": {"name": "adam", "learning_rate": 1e-3, "b1": 0.5},
            "updates": {"ema": 0.998},
            "latent": 32,
            "conditional": True,
            "sample_every": 500,
        }
    )
