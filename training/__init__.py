"""Offline: MNIST in, `models/` out. The service never imports this package."""
