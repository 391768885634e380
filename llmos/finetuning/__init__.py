"""From labelled rows to an evaluated candidate: recipe, rows, training loop, checkpoint, evaluation, gate."""
