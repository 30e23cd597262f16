"""Other servers of models, each with the same model file and the same pipeline as the service, in its own idiom."""
