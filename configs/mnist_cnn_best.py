"""The best plain convolutional network of ours on MNIST within five minutes on two cores.

    python launch.py --config=configs/mnist_cnn_best.py

Test accuracy 99.53 % (n = 1, 390,634 parameters), 295 seconds of training on a machine with 2 cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 10},
            "data": {"name": "tfds", "dataset": "mnist", "validation": 0.05},
            "model": {
                "name": "CNN",
                "widths": (32, 64, 128),
                "hidden": (256,),
                "dropout": 0.4,
                "norm": "batch",
                "pool_last": False,
            },
            "loss": {"name": "softmax_cross_entropy", "label_smoothing": 0.1},
            "optimizer": {
                "name": "adamw",
                "learning_rate": {
                    "name": "cosine_onecycle_schedule",
                    "peak_value": 4e-3,
                    "pct_start": 0.1,
                },
                "weight_decay": 0.05,
            },
        }
    )
