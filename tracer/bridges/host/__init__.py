"""What the host tells every bridge: processes, mounts, connections, and servers that we start ourselves."""
