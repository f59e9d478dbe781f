"""What it runs on: devices and caches found at start, what is wrong with them, the user's folders."""
