"""What was answered for each class over time."""
