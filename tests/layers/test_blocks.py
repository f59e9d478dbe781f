"""Blocks of pixels as channels, against orders written out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import layers


def test_space_to_depth_orders_channels_by_rows():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    blocks = layers.space_to_depth(x, 2)
    assert blocks.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(blocks[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="blocks of 2 pixels do not divide an image of 4 x 5"):
        layers.space_to_depth(jnp.zeros((1, 4, 5, 1)), 2)
