"""A recording made ready to be played: its steps, what each waits for, and which may go next."""
