"""What each kind of study has to show: its tables, figures and verdicts, by name."""
