"""Data formats become token batches, and one trainer that every kind of tuning shares."""
