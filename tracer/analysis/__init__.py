"""What a trace says about the server and the kernel: reports that only take data and give data."""
