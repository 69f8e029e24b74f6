"""The pages of results, made from the JSON lines alone."""
