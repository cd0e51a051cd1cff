"""The side-by-side benchmark: ``make bench``. Nothing of it is part of the product."""
