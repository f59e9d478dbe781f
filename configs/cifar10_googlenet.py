"""GoogLeNet with batch norm on CIFAR-10 with a full schedule, for a GPU.

    python launch.py --config=configs/cifar10_googlenet.py

Not run in full yet (n = 0). Accuracy in % is not known for this schedule. On 2 cores it takes
some 5 images/s, too slow to show that it learns.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 200},
            "data": {"name": "tfds", "dataset": "cifar10", "validation": 0.1},
            "augment": ({"name": "random_crop", "padding": 4}, {"name": "random_flip"}),
            "model": {"name": "GoogLeNet"},
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "sgd",
                "learning_rate": {"name": "warmup_cosine", "peak": 0.1, "warmup": 0.02},
                "momentum": 0.9,
            },
            "updates": {"l2": 5e-4},
        }
    )
