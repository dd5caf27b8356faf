"""What the tests of the pusher stand on: a real function, and something between the two that can break."""

import pytest

from tests.pusher.parts import between, real_function


@pytest.fixture
async def cloud(tmp_path):
    async with real_function(tmp_path) as function:
        yield function


@pytest.fixture
async def middle(cloud):
    async with between(cloud.url) as between_them:
        yield between_them
