"""What is measured: slides to learn from and to place, their embeddings, and the records of all runs."""
