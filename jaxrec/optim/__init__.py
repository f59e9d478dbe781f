"""How it is minimised: optimizers and schedules that optax lacks."""
