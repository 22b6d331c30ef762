"""One page a person wants to look at: the table, the pictures, the worst questions."""
