"""What is kept about runs: configurations, records, checkpoints, the machine, and where the files are."""
