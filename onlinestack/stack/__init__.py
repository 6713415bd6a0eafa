"""What judges scores: experts and their mixture."""
