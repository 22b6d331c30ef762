"""How consistent is each layer of each specialist? Activations, similarities, weights (section 3.3)."""
