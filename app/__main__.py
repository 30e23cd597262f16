"""`python -m app`: serve the shipped model."""

from app.process import main

main()
