"""A generative adversarial network on scikit-learn's handwritten digits (1,797 images of 8x8 pixels).

    python launch.py --config=configs/digits_gan.py

Not run yet (n = 0); cores
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/gan.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "gan",
            "seed": 0,
            "train": {"batch_size": 64, "steps": 3000, "log_every": 100, "eval_every": 500},
            "data": {"name": "digits", "validation": 0.1},
            "generator": {"name": "ConvDecoder", "widths": (64, 32), "norm": "batch"},
            "discriminator": {"name": "ConvCritic", "widths": (32, 64), "kernel": 3},
            "loss": {"name": "hinge"},
            "optimizer": {"name": "adam", "learning_rate": 1e-3, "b1": 0.5},
            "spectral_norm": True,
            "latent": 32,
            "ema": 0.99,
        }
    )
