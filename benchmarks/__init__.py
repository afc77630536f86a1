"""Speed and memory, measured on traces that make_trace makes. `python -m benchmarks` prints and stores a table."""
