"""The paper's generalist evaluations: five-shot multiple choice (README.md)."""
