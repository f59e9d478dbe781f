"""Experiments: recognition, reconstruction, generation. Each module's `build(**config)` answers with an Experiment."""
