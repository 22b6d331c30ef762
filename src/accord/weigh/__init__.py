"""How consistent is each layer? Activations, similarities, weights (paper, section 3.3)."""
