"""What people bring along to train on."""
