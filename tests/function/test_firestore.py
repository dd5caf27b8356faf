"""The way to Firestore: what its channel is told, which no short outage shows."""

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.services.firestore.transports.grpc_asyncio import FirestoreGrpcAsyncIOTransport

from function.stores.firestore import RECONNECT, make_client


@pytest.mark.parametrize("emulated", [True, False])
async def test_a_lost_connection_is_tried_again_soon_however_long_it_was_lost(emulated, monkeypatch):
    """gRPC would wait for up to two minutes; the option is given to the channel that the library makes."""
    told = []
    channel = grpc.aio.insecure_channel("127.0.0.1:1")

    def remember(*_words, options=(), **_more):
        told.extend(options)
        return channel

    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    if emulated:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
        monkeypatch.setattr(grpc.aio, "insecure_channel", remember)
        client = make_client()
    else:
        monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
        monkeypatch.setattr(FirestoreGrpcAsyncIOTransport, "create_channel", remember)
        client = firestore.AsyncClient(credentials=AnonymousCredentials())
    assert client._firestore_api
    assert RECONNECT in told
    await channel.close()
