"""What the page *Day* shows beside its curves."""
