"""Sources of records: each bridge knows one way to overhear a kernel and a FUSE server."""
