"""What happens inside a network: activations, gradients, attribution, top patches."""
