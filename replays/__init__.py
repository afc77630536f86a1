"""Play a recorded kernel against a live server and compare (the plan, mapping and engine live here)."""
