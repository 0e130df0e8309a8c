"""What people were served, as the rows that a model learns tell it."""
