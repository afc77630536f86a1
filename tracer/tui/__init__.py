"""The terminal UI: everything that imports textual."""
