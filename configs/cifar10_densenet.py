"""DenseNet-BC of 100 layers and growth 12 on CIFAR-10 with the schedule of its paper, for a GPU.

    python launch.py --config=configs/cifar10_densenet.py

Not run in full yet (n = 0). Huang et al. (2017) report 95.49 %. That it learns is shown
on 2 cores: 60 steps of 32 out of 1,000 images bring the training loss from 2.30 to 2.06 (n = 1), by
--config.overfit=1000 --config.train.epochs=None --config.train.steps=60 --config.train.batch_size=32
--config.optimizer.learning_rate.peak=0.02
--config.train.log_every=5.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 64, "epochs": 300},
            "data": {"name": "tfds", "dataset": "cifar10", "validation": 0.1},
            "augment": ({"name": "random_crop", "padding": 4}, {"name": "random_flip"}),
            "model": {"name": "DenseNet", "growth": 12},
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "sgd",
                "learning_rate": {"name": "step_decay", "peak": 0.1, "milestones": (0.5, 0.75), "factor": 0.1},
                "momentum": 0.9,
                "nesterov": True,
            },
            "updates": {"l2": 1e-4},
        }
    )
