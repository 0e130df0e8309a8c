"""How good is a model, and may it serve: metrics, evidence, gate."""
