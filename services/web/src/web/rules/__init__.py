"""What the page *Rules* shows and changes."""
