"""Reserved for replay: playing a recorded kernel against a live server. Nothing is here yet.

What it will stand on is in place: `dissectors.roles` says of every field what has to be mapped, `dissectors.reference`
builds messages.
"""
