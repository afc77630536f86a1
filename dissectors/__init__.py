"""The FUSE protocol, declared once, and every reader derived from the declaration."""
