"""Generating answers: the prompt around an instruction, and the back ends that continue it."""
