"""Published methods, each in an environment of its own."""
