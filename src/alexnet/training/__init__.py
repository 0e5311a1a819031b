"""One visible training step, and the loop around it."""
