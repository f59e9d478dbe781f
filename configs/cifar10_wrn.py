"""WRN-28-10 on CIFAR-10 with the schedule of its paper, for a GPU.

    python launch.py --config=configs/cifar10_wrn.py

Not run in full yet (n = 0). Zagoruyko and Komodakis (2016) report 96.1 %. On 2 cores:
SHORT_cifar10_wrn
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
            "model": {"name": "WideResNet", "depth": 28, "widen": 10},
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "sgd",
                "learning_rate": {"name": "step_decay", "peak": 0.1, "milestones": (0.3, 0.6, 0.8), "factor": 0.2},
                "momentum": 0.9,
                "nesterov": True,
            },
            "l2": 5e-4,
        }
    )
