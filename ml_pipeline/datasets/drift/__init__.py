"""How far inputs drifted from what a model was trained on."""
