"""The deep autoencoder 784-1000-500-250-30 of Hinton and Salakhutdinov (Science, 2006) on MNIST, trained from scratch.

    python launch.py --config=configs/mnist_autoencoder.py

The paper's reaches a squared error of 3.00 per test image after layerwise pretraining, where PCA-30 is at 13.87. This
one is aimed at 3.00 or less, and 25 % or less of PCA-30's, in 30 minutes on 2 cores. Not run yet (n = 0).
Sigmoid units, as in the paper: --config.model.activation=sigmoid; its loss: --config.loss.name=pixel_cross_entropy.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/autoencode.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "autoencode",
            "seed": 0,
            "train": {"batch_size": 256, "epochs": 100},
            "data": {"name": "tfds", "dataset": "mnist", "validation": 0.05},
            "model": {"name": "DenseAutoencoder", "widths": (1000, 500, 250), "latent": 30, "activation": "gelu"},
            "loss": {"name": "squared_error"},
            "optimizer": {
                "name": "adamw",
                "learning_rate": {"name": "warmup_cosine", "peak": 1e-3},
                "weight_decay": 1e-2,
            },
        }
    )
