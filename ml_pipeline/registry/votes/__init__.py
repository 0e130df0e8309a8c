"""How the voters of a registered model weigh, read from its files."""
