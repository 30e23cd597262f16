"""The service: HTTP in, probabilities out."""
