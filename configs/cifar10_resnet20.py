"""ResNet-20 on CIFAR-10, as long as an hour on two cores allows.

    python launch.py --config=configs/cifar10_resnet20.py

Test accuracy 91.06 % of the moving average (n = 1, 269,722 parameters; 90.61 % without), 54.5 minutes of training on
2 cores. The paper reports 91.25 % after 182 epochs: configs/cifar10_resnet20_paper.py.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 21},
            "data": {"name": "tfds", "dataset": "cifar10", "validation": 0.02},
            "augment": ({"name": "random_crop", "padding": 4}, {"name": "random_flip"}),
            "model": {"name": "ResNet", "blocks": (3, 3, 3)},
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "muon",
                "learning_rate": {"name": "warmup_linear", "peak": 0.05, "warmup": 0.05},
                "adam_learning_rate": {"name": "warmup_linear", "peak": 3e-3, "warmup": 0.05},
                "beta": 0.9,
                "weight_decay": 0.02,
            },
            "updates": {"ema": 0.999},
        }
    )
