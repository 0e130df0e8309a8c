"""What an online model keeps of its past."""
