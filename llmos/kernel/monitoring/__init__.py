"""Monitoring: a bounded sample of the calls to monitored versions, and what monitors ask of the kernel."""
