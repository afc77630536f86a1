"""One trace against many servers: what is to be run, the runs, and the outcome as text, as a page and as JSON."""
