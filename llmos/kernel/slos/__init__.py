"""SLOs: counters of calls by minute and hour, and how fast they use the budget of errors and of slow calls."""
