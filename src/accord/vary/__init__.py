"""One question, many wordings: rules, paraphrases, and what was skipped with its reason."""
