"""What a long recording does with records: files in turn, an end in time, a flight recorder. Works with any bridge."""
