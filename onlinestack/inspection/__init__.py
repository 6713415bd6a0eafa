"""Looking at models: what is in one, and why it predicted what it did."""
