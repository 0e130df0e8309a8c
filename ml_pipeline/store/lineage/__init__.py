"""What the next run needs to know of a model without opening its artifact."""
