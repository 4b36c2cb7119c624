"""The API: what it takes and gives, and how it describes itself."""
