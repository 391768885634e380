"""The process that sends traces of calls to an OpenTelemetry receiver, so that its work costs the daemon nothing."""
