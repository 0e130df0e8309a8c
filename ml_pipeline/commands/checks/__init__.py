"""What `doctor` checks: the machine, the project, the content of the store."""
