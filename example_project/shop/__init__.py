"""The shop: products in categories, with labels and feature flags, on ordinary models."""
