"""The command line: one small module a command; the only place that prints and chooses exit codes."""
