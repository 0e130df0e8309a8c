"""A person's rows taken out of everything that runs have kept."""
