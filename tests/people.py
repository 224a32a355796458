"""Replicas of the API with people. They share a database, a cache and a clock that a test sets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from services import api
from services.account_ports import AccountStore
from services.adapters.memory import MemoryCache
from services.adapters.sql import accounts
from services.core.accounts.audit import AuditEvent
from services.core.accounts.model import Person
from services.core.accounts.scopes import PersonRole
from services.core.accounts.secret_keys import format_key
from services.key_files import new_key
from services.settings import Settings
from services.web import AppSpec, create_app
from services.web.rate_limiter import ClientRateLimiter
from tests.clocks import ManualClock
from tests.deps import make_deps

NOW = 1_800_000_000_000
PASSWORD = "correct horse battery staple"


class PeopleClient:
    """Requests of people to an API."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def request(self, method: str, path: str, token: str = "", **options: Any) -> httpx.Response:
        """Send a request with a bearer token. A keyword `json` is the body."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await self.client.request(method, path, headers=headers | options.pop("headers", {}), **options)

    async def register(self, name: str = "ann", password: str = PASSWORD, **more: Any) -> Any:
        """Register a person, and return the response's body."""
        body = {"name": name, "password": password, **more}
        response = await self.request("POST", "/v1/persons", json=body)
        assert response.status_code == 201, response.text
        return response.json()

    async def sign_in(self, name: str = "ann", password: str = PASSWORD) -> Any:
        """Sign in, and return the response's body."""
        response = await self.request("POST", "/v1/sign-in", json={"name": name, "password": password})
        assert response.status_code == 200, response.text
        return response.json()

    async def refresh(self, refresh_token: str) -> httpx.Response:
        """Exchange a refresh token."""
        return await self.request("POST", "/v1/sign-in/refresh", json={"refresh_token": refresh_token})

    async def access(self, name: str = "ann") -> str:
        """Register and sign in, and return the access token."""
        await self.register(name)
        return str((await self.sign_in(name))["access_token"])

    async def status(self, token: str, path: str = "/v1/me") -> int:
        """Return the status of a request with a token."""
        return (await self.request("GET", path, token)).status_code


class PeopleReplica(PeopleClient):
    """One replica of the API."""

    def __init__(self, clock: ManualClock, cache: MemoryCache, store: AccountStore, settings: Settings) -> None:
        self.clock, self.store = clock, store
        self.deps = make_deps(settings, clock=clock, cache=cache, accounts=store)
        composed = api.compose(self.deps)
        self._spec = AppSpec(api.ROUTERS, composed.endpoints, authenticator=composed.authenticator)
        self.app = create_app(self.deps, self._spec)
        super().__init__(self.client_at("127.0.0.1"))

    def client_at(self, address: str) -> httpx.AsyncClient:
        """Return a client with that address."""
        transport = httpx.ASGITransport(self.app, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def limit_requests(self) -> None:
        """Enforce the quotas of the settings from now on, for `client_at`."""
        limiter = ClientRateLimiter(settings=self.deps.settings, clock=self.clock, cache=self.deps.cache)
        self.app = create_app(self.deps, self._spec._replace(limiter=limiter))

    async def person(self, name: str) -> Person:
        """Return a person as it is stored."""
        async with self.store.transaction() as tx:
            found = await tx.persons.named(name)
        assert found
        return found

    async def promote(self, name: str) -> None:
        """Make a person an admin, behind Kurs's back."""
        person = await self.person(name)
        async with self.store.transaction() as tx:
            await tx.persons.delete(person.id)
            await tx.persons.add(Person(**{**_fields(person), "role": PersonRole.ADMIN}))

    async def audit(self) -> list[AuditEvent]:
        """Return all audit events, oldest first."""
        async with self.store.transaction() as tx:
            return [entry.event for entry in await tx.audit.read_after(0, 1_000)]


class PeopleSystem:
    """What replicas share."""

    def __init__(self, database: str, **settings: Any) -> None:
        self.database, self.clock, self.cache = database, ManualClock(NOW), MemoryCache()
        self.settings = Settings(_env_file=None, token_key=format_key(new_key()), **settings)
        self.opened: list[PeopleReplica] = []
        self._stores: list[accounts.SqlAccountStore] = []

    def replica(self, **changes: Any) -> PeopleReplica:
        """Return another replica, with other settings if any are given."""
        self._stores.append(accounts.connect(self.database))
        settings = self.settings.model_copy(update=changes)
        self.opened.append(PeopleReplica(self.clock, self.cache, self._stores[-1], settings))
        return self.opened[-1]

    async def close(self) -> None:
        """Close all connections."""
        for replica in self.opened:
            await replica.client.aclose()
        for store in self._stores:
            await store.close()


@asynccontextmanager
async def people_system(database: str, **settings: Any) -> AsyncIterator[PeopleSystem]:
    """Replicas over one migrated database."""
    system = PeopleSystem(database, **settings)
    try:
        yield system
    finally:
        await system.close()


def _fields(person: Person) -> dict[str, Any]:
    return {name: getattr(person, name) for name in person.__struct_fields__}
