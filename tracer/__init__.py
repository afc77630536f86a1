"""Capture, store, pair, filter, analyse and show FUSE messages."""
