"""What two answers mean beside each other: rules with reasons, and what follows from what."""
