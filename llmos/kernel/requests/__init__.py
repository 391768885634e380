"""Requests: records of calls, in memory for a short time, and in one file a day where the log is on."""
