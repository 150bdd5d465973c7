"""Attention in transformers' interface, and the architectures on which fast scoring and training are proven to be exact."""
