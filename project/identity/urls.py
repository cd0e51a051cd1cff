"""The issuer's addresses, relative to the site's root; those below ``/.well-known`` stand in metadata.py."""

from django.urls import path

from project.identity import pages, registration, views

app_name = "identity"

urlpatterns = [
    path("accounts/login/", pages.LoginView.as_view(), name="login"),
    path("accounts/logout/", pages.LogoutView.as_view(), name="account-logout"),
    path("device/", pages.DeviceView.as_view(), name="device"),
    path("o/authorize/", views.AuthorizationView.as_view(), name="authorize"),
    path("o/token/", views.TokenView.as_view(), name="token"),
    path("o/revoke/", views.RevocationView.as_view(), name="revoke"),
    path("o/introspect/", views.IntrospectionView.as_view(), name="introspect"),
    path("o/device-authorization/", views.DeviceAuthorizationView.as_view(), name="device-authorization"),
    path("o/userinfo/", views.UserInfoView.as_view(), name="userinfo"),
    path("o/register/", registration.RegistrationView.as_view(), name="register"),
    path("o/register/<str:client_id>/", registration.ConfigurationView.as_view(), name="registered-client"),
    path("o/logout/", pages.ClientLogoutView.as_view(), name="logout"),
]
