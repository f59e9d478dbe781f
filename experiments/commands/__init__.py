"""What `launch.py` does: a command is the function of its module here."""
