"""Children: the operating system processes that programs run in, their logs and heartbeats."""
