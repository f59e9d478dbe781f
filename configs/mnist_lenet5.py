"""LeNet-5 on MNIST.

    python launch.py --config=configs/mnist_lenet5.py

Test accuracy 99.15 ± 0.09 % (n = 3 seeds, 61,706 parameters), 180 seconds of training on 2 cores that
were shared with other work.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 20},
            "data": {"name": "tfds", "dataset": "mnist", "validation": 0.1},
            "model": {"name": "LeNet5"},
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "adamw",
                "learning_rate": {"name": "warmup_cosine", "peak": 3e-3, "warmup": 0.05},
                "weight_decay": 0.02,
            },
        }
    )
