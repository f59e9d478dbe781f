"""What a task is fed: sources of examples, which of them make the batch of step s, what happens to them in the step."""
