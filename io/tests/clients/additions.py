"""What came after the prototype, by Google's gRPC: batches, accounts, pages, streams, health, reflection.

Says what it saw, a line each; whoever runs it compares. Arguments: address, protocol file.
"""

import importlib
import os
import sys
import tempfile

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_tools import protoc

address, proto = sys.argv[1:3]
out = tempfile.mkdtemp()
folder, name = os.path.split(os.path.abspath(proto))
assert protoc.main(["", "-I" + folder, "--python_out=" + out, "--grpc_python_out=" + out, name]) == 0
sys.path.insert(0, out)
pb = importlib.import_module(name[:-6] + "_pb2")
rpc = importlib.import_module(name[:-6] + "_pb2_grpc")


def change(transaction_id, kind, amount, **more):
    fields = dict(account_id=1, user_id="ann", currency_code="USDT")
    fields.update(more)
    return pb.ChangeBalanceRequest(transaction_id=transaction_id, type=kind, amount=amount, **fields)


def failed(call):
    try:
        return "OK " + str(call())
    except grpc.RpcError as error:
        return error.code().name + ": " + error.details()


channel = grpc.insecure_channel(address)
stub = rpc.BalanceServiceStub(channel)
opened = stub.OpenAccount(pb.OpenAccountRequest(user_id="ann", account_id=1), timeout=20)
print("open", opened.account_id, opened.existed)
stub.OpenAccount(pb.OpenAccountRequest(user_id="bob", account_id=2), timeout=20)
print("taken", failed(lambda: stub.OpenAccount(pb.OpenAccountRequest(user_id="eve", account_id=1), timeout=20)))
print("empty", failed(lambda: stub.OpenAccount(pb.OpenAccountRequest(), timeout=20)))

watch = stub.WatchResults(pb.WatchResultsRequest(user_id="ann"), timeout=60)
watch.initial_metadata()
batch = pb.ChangeBalancesRequest(
    wait=True,
    changes=[
        change("a", pb.DEPOSIT, "5"),
        change("b", pb.WITHDRAW, "7"),
        change("c", pb.TRANSFER, "2", to_user_id="bob", to_account_id=2),
        change("d", pb.SETTLE, "x"),
    ],
)
answers = stub.ChangeBalances(batch, timeout=20).answers
print("batch", [(a.response.success, a.response.error_code, a.code, a.field) for a in answers])
seen = [next(watch) for _ in range(3)]
print("watched", [(r.entry.transaction_id, r.entry.success, r.entry.available_after) for r in seen])
watch.cancel()
resumed = stub.WatchResults(pb.WatchResultsRequest(user_id="ann", after=[seen[0].entry.position]), timeout=60)
print("resumed", [next(resumed).entry.transaction_id for _ in range(2)])
resumed.cancel()

found = stub.GetTransaction(pb.GetTransactionRequest(user_id="ann", transaction_id="c"), timeout=20)
print("found", pb.Outcome.Name(found.outcome), found.entries[0].available_after, found.legs[0].entries[0].amount)
print("lost", failed(lambda: stub.GetTransaction(pb.GetTransactionRequest(user_id="bob", transaction_id="a"), timeout=20)))
page = stub.ListLedger(pb.ListLedgerRequest(account_id=1, page_size=2), timeout=20)
last = stub.ListLedger(pb.ListLedgerRequest(account_id=1, page_token=page.next_page_token), timeout=20)
print("pages", [e.transaction_id for e in page.entries], [e.transaction_id for e in last.entries], last.next_page_token == "")

health = health_pb2_grpc.HealthStub(channel)
asked = health_pb2.HealthCheckRequest(service="balance.BalanceService")
print("serving", health.Check(asked, timeout=20).status)
print("nobody", failed(lambda: health.Check(health_pb2.HealthCheckRequest(service="x"), timeout=20)).split(":")[0])
states = health.Watch(asked, timeout=60)
print("watching", next(states).status, flush=True)
sys.stdin.readline()
print("watched on", next(states).status)
states.cancel()

reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
listed = next(reflection.ServerReflectionInfo(iter(requests), timeout=20))
print("services", sorted(s.name for s in listed.list_services_response.service))
requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol="balance.BalanceService")]
told = next(reflection.ServerReflectionInfo(iter(requests), timeout=20))
file = descriptor_pb2.FileDescriptorProto.FromString(told.file_descriptor_response.file_descriptor_proto[0])
print("file", file.name, len(file.service[0].method))
