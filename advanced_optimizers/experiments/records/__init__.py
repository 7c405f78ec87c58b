"""What is kept of a run: configurations, records, checkpoints, the machine, and where the files are."""
