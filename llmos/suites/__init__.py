"""Behaviour suites: tests of what a model answers, in YAML. They plan inputs and judge answers, and ask nobody."""
