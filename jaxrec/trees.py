"""What a tree of arrays holds, in words."""

import jax

from jaxrec.types import PyTree


def leaf_types(tree: PyTree) -> dict[str, str]:
    """Path -> type and shape of each leaf, {"Dense_0/kernel": "float32[784, 10]"}.

    Attributes, keys and indices are spelled alike: a NamedTuple and the dictionary that it was stored as are equal.
    """
    return {
        "/".join(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path): (
            f"{leaf.dtype}{list(leaf.shape)}"
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
