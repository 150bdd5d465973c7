"""Which weights a checkpoint is: where they lie, what they have seen, how they were initialised."""
