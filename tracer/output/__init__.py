"""Text, JSON and columns out of a trace, for a terminal, a file or a script."""
