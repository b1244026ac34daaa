"""What a potential is: its card, its architecture, its file."""
