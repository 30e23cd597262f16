"""Cards, tables and figures."""
