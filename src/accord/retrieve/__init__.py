"""Passages for each wording: every variation is retrieved anew, as a user's query would be."""
