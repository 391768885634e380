"""Alerts: rules over the daemon's metrics and events, the channels that are told, and messages that survive a crash."""
