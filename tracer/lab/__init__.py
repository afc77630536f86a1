"""A small virtual machine with virtiofs, the tap on its queues, and scenarios that show what sync(2) does there."""
