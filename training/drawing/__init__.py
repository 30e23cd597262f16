"""Generate synthetic digits and outliers, distort drawings, and corrupt test images."""
