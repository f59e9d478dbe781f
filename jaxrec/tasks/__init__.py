"""What is learned: a task is three pure functions over a state; what makes tasks, and what wraps them."""
