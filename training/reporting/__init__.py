"""Present results: the model card, plots, contact sheets, tables and the progress bar."""
