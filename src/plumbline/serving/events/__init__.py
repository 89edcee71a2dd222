"""What happens, told to those who watch: the bus of this gateway, and its WebSocket."""
