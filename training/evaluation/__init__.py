"""How well a model reads, and how it is measured."""
