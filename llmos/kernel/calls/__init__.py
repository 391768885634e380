"""Calls: routed to serve processes, queued by priority, and always answered."""
