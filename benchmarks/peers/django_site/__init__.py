"""A Django project as ``startproject`` makes it, on the product's table: the ground of the Django peers."""
