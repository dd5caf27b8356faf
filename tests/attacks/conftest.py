"""The server that a module of attacks shares."""

from collections.abc import AsyncIterator, Iterator

import pytest

from function.stores import Store
from tests.attacks.target import Target, attacked
from tests.function.conftest import Server, serving


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A real server that must outlive every attack of a module."""
    with attacked(tmp_path_factory.mktemp("attacked")) as running:
        yield running
        running.hear()
        running.alive()


@pytest.fixture(autouse=True)
def hears(request: pytest.FixtureRequest) -> None:
    """Its readings are of now, before each attack that uses it."""
    if "target" in request.fixturenames:
        request.getfixturevalue("target").hear()


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Server]:
    """The function inside the test, over each store in turn."""
    async with serving(store) as running:
        yield running
