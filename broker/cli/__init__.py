"""The command `broker`: asks the daemon over its Unix socket, and prints."""
