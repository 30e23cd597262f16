"""Encoded pictures in, what the model sees out. Knows no HTTP, model, settings or threads."""
