"""One specialist for each kind of wording: cross-entropy on answers + a triplet on queries."""
