"""Every field type, and every way in which tables can be keyed, related, named, filled and constrained."""

import datetime
import decimal
import uuid
from typing import ClassVar

from django.db import models
from django.db.models.functions import Lower, Now
from django.utils import timezone

from project.ordering import Bytewise, Moment
from tests.schema.everyfield.fields import ColourField


class Sample(models.Model):
    """One nullable field of each type, so that a test can set each alone."""

    small = models.SmallIntegerField(null=True)
    integer = models.IntegerField(null=True)
    big = models.BigIntegerField(null=True)
    positive_small = models.PositiveSmallIntegerField(null=True)
    positive = models.PositiveIntegerField(null=True)
    positive_big = models.PositiveBigIntegerField(null=True)
    floating = models.FloatField(null=True)
    price = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    rate = models.DecimalField(max_digits=10, decimal_places=10, null=True)
    whole = models.DecimalField(max_digits=15, decimal_places=0, null=True)
    number = models.DecimalField(null=True)
    boolean = models.BooleanField(null=True)
    char = models.CharField(max_length=40, null=True)
    unbounded = models.CharField(null=True)
    text = models.TextField(null=True)
    email = models.EmailField(null=True)
    slug = models.SlugField(null=True)
    url = models.URLField(null=True)
    file = models.FileField(null=True)
    image = models.ImageField(null=True)
    path = models.FilePathField(null=True)
    binary = models.BinaryField(null=True)
    uuid = models.UUIDField(null=True)
    date = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    time = models.TimeField(null=True)
    duration = models.DurationField(null=True)
    json = models.JSONField(null=True)
    address = models.GenericIPAddressField(null=True)
    address_v4 = models.GenericIPAddressField(protocol="IPv4", null=True)
    address_v6 = models.GenericIPAddressField(protocol="IPv6", null=True)
    address_unpacked = models.GenericIPAddressField(unpack_ipv4=True, null=True)
    colour = ColourField(null=True)


class Small(models.Model):
    id = models.SmallAutoField(primary_key=True)


class Medium(models.Model):
    id = models.AutoField(primary_key=True)


class Identified(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class Numbered(models.Model):
    number = models.IntegerField(primary_key=True)
    small = models.ForeignKey(Small, models.DB_CASCADE)
    medium = models.ForeignKey(Medium, models.DB_SET_DEFAULT, db_default=1)
    identified = models.ForeignKey(Identified, models.DB_SET_NULL, null=True)


class Seat(models.Model):
    pk = models.CompositePrimaryKey("row", "number")
    row = models.CharField(max_length=2)
    number = models.SmallIntegerField()
    is_taken = models.BooleanField(db_default=False)


class Tag(models.Model):
    name = models.SlugField(unique=True)


class Author(models.Model):
    name = models.CharField(max_length=40)
    mentor = models.ForeignKey("self", models.SET_NULL, null=True, related_name="students")
    friends = models.ManyToManyField("self")
    follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")


class Profile(models.Model):
    author = models.OneToOneField(Author, models.CASCADE)
    biography = models.TextField()


class Book(models.Model):
    title = models.CharField(max_length=40)
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    editor = models.ForeignKey(Author, models.SET_NULL, null=True, related_name="+", db_column="edited_by")
    tags = models.ManyToManyField(Tag, related_name="books")
    readers: "models.ManyToManyField[Author, Loan]" = models.ManyToManyField(
        Author, through="Loan", through_fields=("book", "reader"), related_name="borrowed"
    )


class Loan(models.Model):
    book = models.ForeignKey(Book, models.CASCADE, related_name="loans")
    reader = models.ForeignKey(Author, models.CASCADE, related_name="loans")
    lender = models.ForeignKey(Author, models.PROTECT, related_name="lent")
    since = models.DateField()


class Novel(Book):
    class Meta:
        proxy = True


class Review(models.Model):
    novel = models.ForeignKey(Novel, models.CASCADE)
    tag = models.ForeignKey(Tag, models.CASCADE, to_field="name")
    archived = models.ForeignKey(Tag, models.DO_NOTHING, db_constraint=False, null=True, related_name="archive")


class Place(models.Model):
    name = models.CharField(max_length=40)


class Restaurant(Place):
    stars = models.SmallIntegerField()


class Awkward(models.Model):
    """Names that Python, SQLAlchemy or the generated module have taken."""

    locals()["class"] = models.CharField(max_length=5)  # Python would not take it as an assignment.
    metadata = models.CharField(max_length=5)
    datetime = models.DateTimeField()
    later = models.DateTimeField(db_column="when later")
    list = models.CharField(max_length=5, db_default="")
    registry = models.ForeignKey(Tag, models.CASCADE, related_name="metadata")
    tags = models.ManyToManyField(Tag, related_name="+")

    class Meta:
        db_table = "awkward table"


class Stamped(models.Model):
    """An abstract base, as teams have them."""

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class Filled(Stamped):
    """Columns that somebody else than the writer fills."""

    class Size(models.TextChoices):
        SMALL = "s"
        LARGE = "l"

    touched_on = models.DateField(auto_now=True)
    touched_at = models.TimeField(auto_now=True)
    size = models.CharField(max_length=1, choices=Size, default=Size.LARGE)
    quotes = models.CharField(max_length=40, default='it\'s "quoted"\n\\ \u00e9')
    price = models.DecimalField(max_digits=5, decimal_places=2, default=decimal.Decimal("9.90"))
    day = models.DateField(default=datetime.date(2026, 11, 24))
    hour = models.TimeField(default=datetime.time(9, 30))
    start = models.DateTimeField(default=datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC))
    pause = models.DurationField(default=datetime.timedelta(minutes=-90))
    ratio = models.FloatField(default=0.5)
    blob = models.BinaryField(default=b"\x00\"'\xff")
    key = models.UUIDField(default=uuid.UUID(int=7))
    token = models.UUIDField(default=uuid.uuid4)
    options = models.JSONField(default=dict)
    seen_at = models.DateTimeField(default=timezone.now)
    seen_on = models.DateField(default=datetime.date.today)
    count = models.IntegerField(default=1, db_default=3)
    made_at = models.DateTimeField(db_default=Now())
    double = models.GeneratedField(
        expression=models.F("count") * 2, output_field=models.IntegerField(), db_persist=True
    )


class Constrained(models.Model):
    name = models.CharField(max_length=40)
    kind = models.CharField(max_length=10, db_column="sort")
    is_open = models.BooleanField()
    low = models.IntegerField()
    high = models.IntegerField()

    class Meta:
        unique_together: ClassVar = [("name", "low")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(low__lte=models.F("high"))
                & models.Q(kind__in=["it's", "small", "middling", "large"]),
                name="constrained_in_order",
            ),
            models.UniqueConstraint(fields=["name", "kind"], name="constrained_name_kind"),
            models.UniqueConstraint(fields=["kind"], condition=models.Q(is_open=True), name="constrained_one_open"),
            models.UniqueConstraint(Lower("name"), "high", name="constrained_lower_name"),
        ]


class Parcel(models.Model):
    """A table whose list has an order, a filter, a range and a search of each kind."""

    number = models.CharField(max_length=40)
    weight = models.BigIntegerField(db_default=0)
    sent_at = models.DateTimeField(db_default=Now())
    arrived_at = models.DateTimeField(null=True)
    place = models.CharField(max_length=40)
    note = models.CharField(max_length=40, null=True)
    is_lost = models.BooleanField(db_default=False)
    is_paid = models.BooleanField(db_default=True)
    sender = models.ForeignKey(Author, models.CASCADE, related_name="parcels")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["number"], name="parcel_number_unique")]
        indexes: ClassVar = [
            models.Index(Bytewise("number"), name="parcel_number"),
            models.Index("weight", "id", name="parcel_weight"),
            models.Index(Moment("sent_at"), "id", name="parcel_sent"),
            models.Index(Bytewise("place"), "id", name="parcel_place"),
            models.Index(Bytewise(Lower("place")), "id", name="parcel_place_in_any_case"),
            *(
                index
                for flag, rare in (("is_lost", True), ("is_paid", False))
                for index in (
                    models.Index("id", condition=models.Q(**{flag: rare}), name=f"parcel_{flag}_id"),
                    models.Index(Bytewise("number"), condition=models.Q(**{flag: rare}), name=f"parcel_{flag}_number"),
                    models.Index("weight", "id", condition=models.Q(**{flag: rare}), name=f"parcel_{flag}_weight"),
                    models.Index(Moment("sent_at"), "id", condition=models.Q(**{flag: rare}), name=f"parcel_{flag}_at"),
                    models.Index(Bytewise("place"), "id", condition=models.Q(**{flag: rare}), name=f"parcel_{flag}_by"),
                )
            ),
            models.Index("sender", "id", name="parcel_sender"),
            models.Index("sender", Bytewise("number"), name="parcel_sender_number"),
            models.Index("sender", "weight", "id", name="parcel_sender_weight"),
            models.Index("sender", Moment("sent_at"), "id", name="parcel_sender_sent"),
            models.Index("sender", Bytewise("place"), "id", name="parcel_sender_place"),
        ]
