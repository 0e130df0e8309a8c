"""What `doctor` looks at: the machine, the project, what stands in the store."""
