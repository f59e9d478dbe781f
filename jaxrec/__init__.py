"""jaxrec: image recognition research in JAX."""
