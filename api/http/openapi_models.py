"""The schemas of models in the OpenAPI document: those of pydantic, which also validates the models. Litestar's own schemas
would not show that unknown fields are refused, nor the bounds of nullable fields.
"""

from typing import Any

from litestar.openapi.spec import Schema
from litestar.plugins.pydantic import PydanticSchemaPlugin
from litestar.typing import FieldDefinition
from pydantic import BaseModel

# pydantic uses these keywords for the bounds of a field that also has a custom validator
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


class JsonSchema(Schema):
    """A schema that is already given as JSON."""

    def __init__(self, json_schema: dict[str, Any]) -> None:
        super().__init__()
        self.json_schema = json_schema

    def to_schema(self) -> dict[str, Any]:
        return self.json_schema


class PydanticSchemas(PydanticSchemaPlugin):
    """Registers each model under the name of its class, as in pydantic's references."""

    @classmethod
    def for_pydantic_model(cls, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        component = super().for_pydantic_model(field_definition, schema_creator)
        model: type[BaseModel] = field_definition.annotation
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        component.properties = {name: JsonSchema(_cleaned(field)) for name, field in schema.get("properties", {}).items()}
        component.additional_properties = schema.get("additionalProperties")
        return component


def _cleaned(schema: Any) -> Any:
    """The schema with JSON Schema's keywords only, without titles (they repeat names) and defaults of null."""
    if isinstance(schema, list):
        return [_cleaned(item) for item in schema]
    if isinstance(schema, dict):
        return {
            BOUNDS.get(key, key): value if key in ("examples", "default") else _cleaned(value)
            for key, value in schema.items()
            if key != "title" and (key, value) != ("default", None)
        }
    return schema
