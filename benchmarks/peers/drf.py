"""Django REST framework with simplejwt, a ModelSerializer and a ModelViewSet, as their documentation has it."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from rest_framework import mixins, permissions, serializers, viewsets
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.validators import UniqueValidator

from benchmarks.peers.common import DEFAULT_LIMIT, MAXIMUM_LIMIT, READ, WRITE, decode_cursor, encode_cursor
from benchmarks.peers.django_site.accounts.models import User


class LowerCaseEmailField(serializers.EmailField):
    """An address in lower case before its uniqueness is checked."""

    def to_internal_value(self, data: Any) -> str:
        return super().to_internal_value(data).lower()


class UserSerializer(serializers.ModelSerializer):
    email = LowerCaseEmailField(max_length=254, validators=[UniqueValidator(User.objects.all())])

    class Meta:
        model = User
        fields = ("id", "email", "display_name", "is_active", "is_staff", "created_at", "updated_at")
        read_only_fields = ("is_staff", "created_at", "updated_at")


class HasScope(permissions.BasePermission):
    """Reading and writing each have a scope."""

    def has_permission(self, request: Request, view: Any) -> bool:
        scope = READ if request.method in permissions.SAFE_METHODS else WRITE
        return request.user.is_authenticated and scope in request.auth.get("scope", "").split()


class AfterId(BasePagination):
    """The page that every peer has; DRF's own cursor has another form and would be another answer."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[User]:
        try:
            self.limit = int(request.query_params.get("limit", DEFAULT_LIMIT))
            after = decode_cursor(request.query_params.get("cursor"))
        except ValueError:
            raise ValidationError("invalid page") from None
        if not 1 <= self.limit <= MAXIMUM_LIMIT:
            raise ValidationError("invalid limit")
        users = list(queryset.filter(id__gt=after)[: self.limit + 1])
        self.has_next = len(users) > self.limit
        self.page = users[: self.limit]
        return self.page

    def get_paginated_response(self, data: Any) -> Response:
        next_cursor = encode_cursor(self.page[-1].id) if self.has_next else None
        return Response({"items": data, "next_cursor": next_cursor})


class UserViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.CreateModelMixin,
    mixins.UpdateModelMixin,
    viewsets.GenericViewSet,
):
    queryset = User.objects.order_by("id")
    serializer_class = UserSerializer
    pagination_class = AfterId
    permission_classes = (HasScope,)


def ping(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain")


router = SimpleRouter(trailing_slash=False)
router.register("users", UserViewSet)

urlpatterns = [path("ping", ping), path("api/v1/", include(router.urls))]
