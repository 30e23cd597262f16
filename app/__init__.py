"""The service: HTTP in, probabilities out."""

VERSION = "0.1.0"
