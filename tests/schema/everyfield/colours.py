"""A value of a project's own, and the SQLAlchemy type that stores it as ``fields.ColourField`` does."""

import dataclasses

from sqlalchemy import Dialect, String, types


@dataclasses.dataclass(frozen=True)
class Colour:
    red: int
    green: int
    blue: int

    def __str__(self) -> str:
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"

    @classmethod
    def parse(cls, text: str) -> "Colour":
        return cls(*bytes.fromhex(text.removeprefix("#")))


class ColourType(types.TypeDecorator[Colour]):
    impl = String(7)
    cache_ok = True

    def process_bind_param(self, value: Colour | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Colour | None:
        return None if value is None else Colour.parse(value)
