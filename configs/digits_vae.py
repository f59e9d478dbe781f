"""A variational autoencoder, 64-200-200-16, on scikit-learn's handwritten digits (1,797 images of 8x8 pixels).

    python launch.py --config=configs/digits_vae.py

Test negative log likelihood 159.4 nats, 3.59 bits per dimension, by 5,000 samples on all 360 test images (n = 1 seed,
116,097 parameters); 20 seconds from the command to the last picture on a machine with 2 cores, nothing compiled before.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/vae.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "vae",
            "seed": 0,
            "train": {"batch_size": 64, "epochs": 200, "eval_every": 500},
            "data": {"name": "digits", "validation": 0.1},
            "model": {"name": "DenseVAE", "widths": (200, 200), "latent": 16, "activation": "tanh"},
            "likelihood": {"name": "discretised_logistic"},
            "optimizer": {
                "name": "adam",
                "learning_rate": {"name": "cosine_decay_schedule", "init_value": 2e-3},
            },
            "updates": {"ema": 0.995},
        }
    )
