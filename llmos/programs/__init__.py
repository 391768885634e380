"""Mains of child processes, the zygote they are forked from, and their end of the channel."""
