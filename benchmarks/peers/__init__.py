"""Other model servers, each with the same model file and pipeline as the service."""
