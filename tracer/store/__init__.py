"""The trace file: pcapng on disk, written whole block by whole block, read back without copying."""
