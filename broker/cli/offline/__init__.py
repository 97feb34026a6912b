"""Commands that need no daemon; they alone may import more of the broker than `core`."""
