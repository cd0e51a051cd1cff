from django.apps import AppConfig

from project.schema.fields import exactly, teach
from tests.schema.everyfield.fields import ColourField


class EveryFieldConfig(AppConfig):
    name = "tests.schema.everyfield"
    label = "everyfield"

    def ready(self) -> None:
        colours = "tests.schema.everyfield.colours"
        teach(ColourField, exactly("Colour", "ColourType", f"{colours}.Colour", f"{colours}.ColourType"))
