"""`python -m app`: serve the shipped model."""

from app.server import main

main()
