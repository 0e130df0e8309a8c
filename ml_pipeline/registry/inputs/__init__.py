"""What a scoring file does with the cells of a row before a model sees them."""
