"""Pictures of your own, a folder for each class: docs/data.md has the layouts, and what else a set may be.

    python launch.py --config=configs/pictures.py --config.data.path=FOLDER

MEASURED
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 64, "epochs": 20},
            "data": {"name": "folder", "path": "pictures", "size": 64},
            "augment": ({"name": "random_crop", "padding": 4}, {"name": "random_flip"}),
            "model": {"name": "ResNet", "blocks": (2, 2, 2), "width": 32, "stem": "large", "shortcut": "project"},
            "loss": {"name": "softmax_cross_entropy", "label_smoothing": 0.1},
            "optimizer": {
                "name": "adamw",
                "learning_rate": {"name": "warmup_cosine", "peak": 3e-3, "warmup": 0.1},
                "weight_decay": 0.05,
            },
        }
    )
