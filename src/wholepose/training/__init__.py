"""Training: recipes, targets, loss, optimiser and schedule, checkpoints, the trainer. Needs the [train] extra."""
