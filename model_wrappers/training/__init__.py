"""Training data in several formats becomes token batches; one trainer serves every kind of fine-tuning."""
