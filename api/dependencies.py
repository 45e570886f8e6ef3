"""What every handler can ask for by name; api/app.py provides it."""

from typing import TypeAlias

from litestar.di import NamedDependency

from api.auth import Authenticator
from api.listeners import Listeners
from api.outcomes import Outcomes
from schemas.clients.identity import Identity
from schemas.database import Database
from schemas.settings import Settings
from schemas.users import User

TheDatabase: TypeAlias = NamedDependency[Database]
TheUser: TypeAlias = NamedDependency[User]
TheSettings: TypeAlias = NamedDependency[Settings]
TheOutcomes: TypeAlias = NamedDependency[Outcomes]
TheIdentity: TypeAlias = NamedDependency[Identity]
TheListeners: TypeAlias = NamedDependency[Listeners]
TheAuthenticator: TypeAlias = NamedDependency[Authenticator]
