"""Pages and figures of a run, made from its files."""
