"""The figures: one module for each family of kinds, their frames, style and notes."""
