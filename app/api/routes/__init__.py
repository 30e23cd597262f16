"""HTTP routes: each translates to and from the service, and nothing else."""
