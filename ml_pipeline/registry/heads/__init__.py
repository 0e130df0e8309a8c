"""The heads of a scoring file, read and asked: in plain Python, and with numpy."""
