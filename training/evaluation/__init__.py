"""Measure models: accuracy, calibration and rejection."""
