"""Counts Firestore operations where they happen: on the gRPC channel, by an interceptor.

A read is a document asked for by key, or one that a query returned (a query without a result costs one), or a thousand
index entries that an aggregation looked at; a write or a delete is one mutation of a commit. So Google bills them.
"""

from dataclasses import dataclass, field
from typing import Any

import grpc
from google.cloud import firestore

from function.stores.firestore import make_client


@dataclass
class Bill:
    """What was asked of Firestore so far."""

    reads: int = 0
    writes: int = 0
    deletes: int = 0
    entries: int = 0
    """Sites in the store, as far as an aggregation has counted them."""
    calls: list[str] = field(default_factory=list)

    def take(self) -> tuple[int, int, int]:
        """Reads, writes and deletes since the last look."""
        taken = self.reads, self.writes, self.deletes
        self.reads = self.writes = self.deletes = 0
        self.calls.clear()
        return taken


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, bill: Bill) -> None:
        self.bill = bill

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        method = _name(details)
        self.bill.calls.append(method)
        if method == "Commit":
            for write in request.writes:
                if "delete" in write:
                    self.bill.deletes += 1
                else:
                    self.bill.writes += 1
        return await continuation(details, request)


class _Stream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, bill: Bill) -> None:
        self.bill = bill

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        method = _name(details)
        self.bill.calls.append(method)
        if method == "BatchGetDocuments":
            self.bill.reads += len(request.documents)
        answers = await continuation(details, request)
        if method == "RunQuery":
            return _counted(answers, self.bill)
        return _aggregated(answers, self.bill) if method == "RunAggregationQuery" else answers


async def _counted(answers: Any, bill: Bill) -> Any:
    found = 0
    async for answer in answers:
        if answer.document.name:
            found += 1
        yield answer
    bill.reads += max(1, found)


async def _aggregated(answers: Any, bill: Bill) -> Any:
    """An aggregation costs a read per thousand entries; how many there are is known from the counts among them."""
    async for answer in answers:
        fields = answer.result.aggregate_fields
        bill.entries = max(
            bill.entries, *(fields[name].integer_value for name in ("sites", "fresh") if name in fields), 0
        )
        bill.reads += max(1, -(-bill.entries // 1000))
        yield answer


def _name(details: Any) -> str:
    method = details.method
    return (method.decode() if isinstance(method, bytes) else method).rpartition("/")[2]


def counting_client(bill: Bill) -> firestore.AsyncClient:
    """The product's own client, on a channel that counts."""
    client = make_client()

    def channel(_transport: Any) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(client._emulator_host, interceptors=[_Unary(bill), _Stream(bill)])

    client._emulator_channel = channel
    return client
