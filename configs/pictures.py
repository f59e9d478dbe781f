"""Pictures of your own, a folder for each class: docs/data.md has the layouts, and what else a set may be.

    python launch.py --config=configs/pictures.py --config.data.path=FOLDER

On 12 classes of 64x64 crops of photographs, 3,600 of them to train on (`python benchmarks/photographs.py crops
--to=FOLDER`): 92.5 ± 2.2 % of the test crops, n = 3, in five and a half CPU minutes each on 2 cores. Beside it, on the
same split (`benchmarks/photographs.py baselines`): 5 nearest neighbours on raw pixels 49.9 %, logistic regression on
HOG features 38.5 %.
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
