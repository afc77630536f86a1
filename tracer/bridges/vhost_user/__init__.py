"""The vhost-user bridge: stands between a VMM and a virtiofs daemon, and carries the queues of the guest over."""

from tracer.bridges.vhost_user.tap import TapStats, VhostUserBridge

__all__ = ["TapStats", "VhostUserBridge"]
