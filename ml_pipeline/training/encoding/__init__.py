"""Features that are no numbers, prepared inside a model's own pipeline."""
