"""Boosted trees: generations trained on the recent past, flattened so that kernels walk them."""
