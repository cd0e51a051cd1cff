"""One schema: the Django models, written out as SQLAlchemy tables for the API (docs/schema.md)."""
