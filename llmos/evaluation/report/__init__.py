"""The report page of an evaluation: the verdict in plain words first, then what it rests on."""
