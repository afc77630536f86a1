"""The directories behind servers: a sandbox over one, and whether two hold the same."""
