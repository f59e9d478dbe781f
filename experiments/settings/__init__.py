"""Configs and flags: checked against signatures before JAX starts, then made into objects."""
