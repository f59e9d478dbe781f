"""Data: where images come from (`sources`) and which of them make the batch of step s (`pipeline`)."""
