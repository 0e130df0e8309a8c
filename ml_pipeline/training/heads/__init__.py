"""Small softmax regressions on top of a base: what they see, how they learn, what they remember."""
