from __future__ import annotations


def load_cells(f):
    return []


def short_table(c):
    return ""


def write_pages(c, p):
    pass
