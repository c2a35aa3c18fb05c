"""A client of the prototype: stubs from its own protocol file, Google's gRPC, and a signature.

Says what it saw, a line each; whoever runs it compares. Arguments: address, protocol file, secret.
"""

import hashlib
import hmac
import importlib
import os
import sys
import tempfile
import time

import grpc
from grpc_tools import protoc

address, proto, secret = sys.argv[1:4]
out = tempfile.mkdtemp()
folder, name = os.path.split(os.path.abspath(proto))
assert protoc.main(["", "-I" + folder, "--python_out=" + out, "--grpc_python_out=" + out, name]) == 0
sys.path.insert(0, out)
pb = importlib.import_module(name[:-6] + "_pb2")
rpc = importlib.import_module(name[:-6] + "_pb2_grpc")


def signed(request, **changes):
    timestamp = changes.get("timestamp", str(int(time.time() * 1000)))
    message = timestamp.encode() + b":" + request.SerializeToString()
    signature = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return [
        ("x-signature", changes.get("signature", signature)),
        ("x-timestamp", timestamp),
        ("x-key-id", changes.get("key", "1")),
    ]


def change(transaction_id, kind, amount, **more):
    fields = dict(account_id=42, user_id="u-42", currency_code="USDT")
    fields.update(more)
    return pb.ChangeBalanceRequest(transaction_id=transaction_id, type=kind, amount=amount, **fields)


def failed(call):
    try:
        return "OK " + str(call())
    except grpc.RpcError as error:
        return error.code().name + ": " + error.details()


channel = grpc.insecure_channel(address)
stub = rpc.BalanceServiceStub(channel)
health = stub.HealthCheck(pb.HealthCheckRequest(), timeout=20)
print("health", health.healthy, health.status, health.timestamp > 0)

request = change("t-1", pb.DEPOSIT, "10.000000000000000001", metadata={"a": "é"}, description="d")
answer = stub.ChangeBalance(request, metadata=signed(request), timeout=20)
print("deposit", answer.success, answer.transaction_id, answer.event_id != "", repr(answer.error_message))
again = stub.ChangeBalance(request, metadata=signed(request), timeout=20)
print("again", again.success, again.event_id == answer.event_id, again.error_message)

for label, request in [
    ("amount", change("t-2", pb.WITHDRAW, "-100")),
    ("nothing", pb.ChangeBalanceRequest()),
    ("stranger", change("t-3", pb.DEPOSIT, "1", user_id="u-43")),
]:
    answer = stub.ChangeBalance(request, metadata=signed(request), timeout=20)
    print(label, answer.success, answer.error_message)

request = change("t-4", pb.DEPOSIT, "1")
old = str(int(time.time() * 1000) - 300_100)
print("unsigned", failed(lambda: stub.ChangeBalance(request, timeout=20)))
print("forged", failed(lambda: stub.ChangeBalance(request, metadata=signed(request, signature="0" * 64), timeout=20)))
print("key", failed(lambda: stub.ChangeBalance(request, metadata=signed(request, key="2"), timeout=20)))
print("old", failed(lambda: stub.ChangeBalance(request, metadata=signed(request, timestamp=old), timeout=20)))
# Long, because what gets no shorter is not compressed.
request = change("t-5", pb.DEPOSIT, "1", description="x" * 1000)
zipped = lambda: stub.ChangeBalance(request, metadata=signed(request), timeout=20, compression=grpc.Compression.Gzip)
print("gzip", failed(zipped).split(":")[0])
unknown = channel.unary_unary("/balance.BalanceService/Nothing")
print("unknown", failed(lambda: unknown(b"", timeout=20)).split(":")[0])
torn = channel.unary_unary("/balance.BalanceService/GetBalance")
print("torn", failed(lambda: torn(b"\xff\xff", timeout=20)).split(":")[0])
huge = lambda: stub.GetBalance(pb.GetBalanceRequest(currency_code="x" * 10_000_000), timeout=20)
# By HTTP's status 413 or by gRPC's own.
print("huge", failed(huge).split(":")[0] in ("UNKNOWN", "RESOURCE_EXHAUSTED"))

balance = stub.GetBalance(pb.GetBalanceRequest(account_id=42, currency_code="USDT"), timeout=20)
info = balance.balance
print("balance", balance.success, info.account_id, info.currency_code, info.available, info.frozen, info.version)
none = stub.GetBalance(pb.GetBalanceRequest(account_id=42, currency_code="BTC"), timeout=20)
print("none", none.success, none.HasField("balance"), none.error_message)
