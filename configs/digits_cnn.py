"""A convolutional network on scikit-learn's handwritten digits (1,797 images of 8x8 pixels, inside the package).

    python launch.py --config=configs/digits_cnn.py

Test accuracy 99.53 ± 0.26 % (n = 10 seeds, 53,098 parameters), 3 seconds of training on a machine with 2 cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 64, "epochs": 40},
            "data": {"name": "digits", "validation": 0.1},
            "model": {
                "name": "CNN",
                "widths": (32, 64),
                "hidden": (128,),
                "dropout": 0.3,
                "norm": "batch",
                "padding": "SAME",
            },
            "loss": {"name": "softmax_cross_entropy", "label_smoothing": 0.1},
            "optimizer": {
                "name": "adamw",
                "learning_rate": {"name": "cosine_decay_schedule", "init_value": 3e-3},
                "weight_decay": 1e-2,
            },
        }
    )
