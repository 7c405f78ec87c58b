"""What a study is, how it is tuned and run, and one module per topic."""
