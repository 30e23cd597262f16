"""The protocols of other model servers."""
