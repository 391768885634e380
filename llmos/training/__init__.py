"""Training: the recipe resolved, the candidate model, objectives, the optimizer, the trainer and its checkpoints."""
