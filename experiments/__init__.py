"""The questions a config can ask. Each module's `build(**config)` answers with an Experiment."""
