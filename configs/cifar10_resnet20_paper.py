"""ResNet-20 on CIFAR-10 with the schedule of its paper, for a GPU.

    python launch.py --config=configs/cifar10_resnet20_paper.py

Not run yet (n = 0): its aim is 91.7 %. He et al. (2016, table 6) report 91.25 %. configs/cifar10_resnet20.py is the
form for 2 cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 182},  # 64,000 steps on 45,000 images
            "data": {"name": "tfds", "dataset": "cifar10", "validation": 0.1},
            "augment": ({"name": "random_crop", "padding": 4}, {"name": "random_flip"}),
            "model": {"name": "ResNet", "blocks": (3, 3, 3)},
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "sgd",
                "learning_rate": {"name": "step_decay", "peak": 0.1},
                "momentum": 0.9,
            },
            "updates": {"l2": 1e-4},
        }
    )
