"""Linear learners over hashed features, after Vowpal Wabbit, float32 to the operation."""
