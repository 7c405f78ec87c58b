"""The tables, and how they are written."""
