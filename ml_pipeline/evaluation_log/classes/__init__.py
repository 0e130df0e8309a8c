"""What was answered for each class."""
