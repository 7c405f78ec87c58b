"""The documents that the blocks fill: their markers, outlines, numbers and languages."""
