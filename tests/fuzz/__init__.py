"""Fuzzing with atheris, which the suite does not need: `make fuzz`."""
