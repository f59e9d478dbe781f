"""What runs a task: compiling, the loop over steps, hooks, checkpoints."""
