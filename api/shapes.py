"""How models are documented: as pydantic says, which also checks them. The framework would leave out that unknown fields are
refused, and the bounds of whatever may be null."""

from typing import Any

from litestar.openapi.spec import Schema
from litestar.plugins.pydantic import PydanticSchemaPlugin
from litestar.typing import FieldDefinition
from pydantic import BaseModel

# how pydantic writes bounds that stand beside a validator of our own
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


class Shape(Schema):
    """A schema that is JSON already."""

    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__()
        self.said = said

    def to_schema(self) -> dict[str, Any]:
        return self.said


class ModelShapes(PydanticSchemaPlugin):
    """Registers each model under the name of its class, which is what pydantic's references say, too."""

    @classmethod
    def for_pydantic_model(cls, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        component = super().for_pydantic_model(field_definition, schema_creator)
        model: type[BaseModel] = field_definition.annotation
        said = model.model_json_schema(ref_template="#/components/schemas/{model}")
        component.properties = {name: Shape(_plain(shape)) for name, shape in said.get("properties", {}).items()}
        component.additional_properties = said.get("additionalProperties")
        return component


def _plain(shape: Any) -> Any:
    """The schema in the words of JSON Schema alone, without the titles that only repeat names."""
    if isinstance(shape, list):
        return [_plain(item) for item in shape]
    if isinstance(shape, dict):
        return {
            BOUNDS.get(key, key): value if key in ("examples", "default") else _plain(value)
            for key, value in shape.items()
            if key != "title" and (key, value) != ("default", None)
        }
    return shape
