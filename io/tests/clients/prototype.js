// A client of the prototype on Node.js: its own protocol file, grpc-js, and a signature. Says what it
// saw, a line each; whoever runs it compares. Arguments: address, protocol file, secret.
const crypto = require('crypto');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, proto, secret] = process.argv.slice(2);
const definition = loader.loadSync(proto, { keepCase: true, longs: String, enums: String, defaults: true });
const { balance } = grpc.loadPackageDefinition(definition);
const client = new balance.BalanceService(address, grpc.credentials.createInsecure());

function call(method, request, sign) {
  const metadata = new grpc.Metadata();
  if (sign) {
    const timestamp = String(Date.now());
    const bytes = balance.BalanceService.service[method].requestSerialize(request);
    const hmac = crypto.createHmac('sha256', secret).update(timestamp + ':').update(bytes);
    metadata.set('x-signature', hmac.digest('hex'));
    metadata.set('x-timestamp', timestamp);
    metadata.set('x-key-id', '1');
  }
  const options = { deadline: Date.now() + 20000 };
  return new Promise((resolve) => {
    client[method](request, metadata, options, (error, answer) =>
      resolve(error ? { code: grpc.status[error.code] } : answer));
  });
}

(async () => {
  const health = await call('HealthCheck', {});
  console.log('health', health.healthy, health.status);
  const deposit = {
    transaction_id: 'js-1', account_id: '42', user_id: 'u-42', currency_code: 'USDT',
    type: 'DEPOSIT', amount: '0.000000000000000001', metadata: { b: '2', a: '1' },
  };
  const answer = await call('ChangeBalance', deposit, true);
  console.log('deposit', answer.success, answer.transaction_id, answer.error_message === '');
  const again = await call('ChangeBalance', deposit, true);
  console.log('again', again.success, again.event_id === answer.event_id);
  console.log('unsigned', (await call('ChangeBalance', deposit, false)).code);
  const read = await call('GetBalance', { account_id: '42', currency_code: 'USDT' });
  console.log('balance', read.success, read.balance.available, read.balance.version);
  client.close();
})();
