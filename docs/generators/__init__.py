"""What writes pages, or parts of pages, from the code."""
