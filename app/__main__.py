"""`python -m app`: serve the shipped model."""

from app.main import main

main()
