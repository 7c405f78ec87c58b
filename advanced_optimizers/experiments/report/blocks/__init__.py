"""The generated blocks of the README and the report: each key, and the function that writes its text."""
