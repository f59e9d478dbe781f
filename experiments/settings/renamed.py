"""What settings were called before: a config is answered with the new name, a run's config.json is read under it."""

from collections.abc import Collection, Mapping
from typing import Any

RENAMED = {
    "config.labels": "config.train_images",
    "config.train.anew": "config.train.reinit",
    "config.train.part": "config.train.submodule",
    "config.rates": "config.updates.lr_factors",
    **{
        f"config.{name}": f"config.updates.{name}"
        for name in ("clip_norm", "l1", "l2", "layer_decay", "freeze", "accumulate", "ema")
    },
}


def under_new_names(config: Mapping[str, Any], taken: Collection[str] = ()) -> dict[str, Any]:
    """The config of a run of an older version, under today's names.

    Args:
      config: as it was stored.
      taken: arguments of its experiment, which mean what they are called.
    """
    new = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    for old, name in RENAMED.items():
        *section, old_key = old.split(".")[1:]
        *other_section, key = name.split(".")[1:]
        before = new.get(section[0]) if section else new
        if isinstance(before, dict) and old_key in before and (section or old_key not in taken):
            after = new.setdefault(other_section[0], {}) if other_section else new
            after[key] = before.pop(old_key)
    return new
