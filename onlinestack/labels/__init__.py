"""Pending records: kept as served until their labels are known, and learned then."""
