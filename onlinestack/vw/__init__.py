"""Vowpal Wabbit's command line over our linear learners: the same options, the same numbers."""
