"""Validation of request bodies by pydantic, with a list of errors that is cut before it is built."""

from typing import Any

from litestar._signature.types import ExtendedMsgSpecValidationError
from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin
from pydantic import BaseModel, ValidationError

from schemas.errors import Invalid

MAX_LISTED = 500  # pydantic counts errors at no cost, and takes 20 µs to list each one


class BoundedValidation(InitPlugin):
    """Replaces the decoder of PydanticPlugin, which has to come before it in the list of plugins."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app_config.plugins.append(_Decoder())  # PydanticPlugin adds its decoder in a plugin at the end of the list, too
        return app_config


class _Decoder(InitPlugin):
    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app_config.type_decoders = [(_is_model, _decode), *(app_config.type_decoders or [])]
        return app_config


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _decode(model: type[BaseModel], value: Any) -> BaseModel:
    try:
        return model.model_validate(value, strict=False)
    except ValidationError as error:
        count = error.error_count()
        if count > MAX_LISTED:
            raise Invalid("", f"The body has {count:,} mistakes, too many to list; check the fields of this route.") from None
        listed: list[Any] = error.errors(include_url=False, include_input=False)
        raise ExtendedMsgSpecValidationError(errors=listed) from None
