"""Pictures that code draws or distorts."""
