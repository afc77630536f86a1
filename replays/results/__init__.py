"""What a replay came to, as text, as JSON, kept in the live trace, and as two columns."""
