"""The only door to models: where they are, how they load, how they read a prompt."""
