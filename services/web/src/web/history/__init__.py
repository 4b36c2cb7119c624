"""What the page *History* shows and repairs."""
