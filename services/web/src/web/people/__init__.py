"""Who may do what: accounts, keys, sessions, and the audit of what they did."""
