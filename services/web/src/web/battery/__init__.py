"""What the page *Battery* shows."""
