"""Blocks that models share word for word. What only one paper needs stays in that paper's file."""
