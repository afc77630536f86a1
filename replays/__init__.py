"""Replay: plays a recorded kernel against a live server, at the level of the protocol, and compares every answer.

`replay.replay` does all of it; `transports.launcher` starts a server to do it with.
"""
