"""A dense autoencoder on scikit-learn's handwritten digits (1,797 images of 8x8 pixels), 64-256-128-8 and back.

    python launch.py --config=configs/digits_autoencoder.py

Not run yet with these 60 epochs (n = 0); aimed at half the squared error of PCA-8, 50 %, in seconds on 2 cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/autoencode.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "autoencode",
            "seed": 0,
            "train": {"batch_size": 64, "epochs": 60, "eval_every": 100},
            "data": {"name": "digits", "validation": 0.1},
            "model": {"name": "DenseAutoencoder", "widths": (256, 128), "latent": 8, "activation": "gelu"},
            "loss": {"name": "squared_error"},
            "optimizer": {
                "name": "adamw",
                "learning_rate": {"name": "warmup_cosine", "peak": 2e-3},
                "weight_decay": 1e-2,
            },
        }
    )
