"""What is shown: figures, tables, generated blocks of text, notebooks."""
