"""OpenTelemetry, an extra: traces of calls on their way to a receiver. Nothing here is imported while none is set."""
