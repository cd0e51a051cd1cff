from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    """Django's admin, on a site that bounds what staff may do."""

    default_site = "project.admin.site.BoundedSite"
