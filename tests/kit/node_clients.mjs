// What the clients of Node send, one after the other; a line of JSON for each: client, name, what it was.
import amqp from "amqplib";
import rhea from "rhea";

const [url, queue] = process.argv.slice(2);
const tell = (client, name, sent) => console.log(JSON.stringify({ client, name, sent }));
const order = { order: 7, name: "grüße" };

const connection = await amqp.connect(url);
const channel = await connection.createConfirmChannel();
const viaAmqplib = async (name, body, options, sent) => {
  channel.sendToQueue(queue, body, options);
  await channel.waitForConfirms();
  tell("amqplib", name, sent);
};
const json = Buffer.from(JSON.stringify(order));
await viaAmqplib("bare", json, {}, order);
await viaAmqplib("json", json, { contentType: "application/json", messageId: "m-1", persistent: true }, order);
await viaAmqplib("charset", Buffer.from(JSON.stringify(order), "latin1"), { contentType: "application/json; charset=latin1" }, order);
await viaAmqplib("text", Buffer.from("grüße"), { contentType: "text/plain", contentEncoding: "utf-8" }, "grüße");
await viaAmqplib("plain text", Buffer.from("hello"), {}, null);
await viaAmqplib("binary", Buffer.from([0xff, 0x00]), { contentType: "application/x-protobuf" }, null);
await viaAmqplib("empty", Buffer.alloc(0), {}, null);
await viaAmqplib("cloudevent", json, {
  contentType: "application/json",
  headers: { "cloudEvents:specversion": "1.0", "cloudEvents:id": "e-1", "cloudEvents:source": "/node", "cloudEvents:type": "order.created" },
}, order);
await viaAmqplib("properties", json, {
  contentType: "application/json", correlationId: "c-1", replyTo: "answers", appId: "shop", type: "order",
  priority: 4, timestamp: 1767355200, headers: { n: 1, big: 2 ** 40, float: 1.5, yes: true, nothing: null, list: [1, "a"], map: { a: 1 } },
}, order);
await connection.close();

const target = new URL(url);
const vhost = decodeURIComponent(target.pathname.slice(1)) || "/";
const bodies = [
  ["string", "hello", {}, "hello"],
  ["string of json", JSON.stringify(order), { content_type: "application/json" }, order],
  ["string of json without a type", JSON.stringify(order), {}, order],
  ["binary", Buffer.from(JSON.stringify(order)), { content_type: "application/json" }, order],
  ["data", rhea.message.data_section(Buffer.from(JSON.stringify(order))), { content_type: "application/json" }, order],
  ["two data", rhea.message.data_sections([Buffer.from('{"order": 7, '), Buffer.from('"name": "grüße"}')]), { content_type: "application/json" }, order],
  ["map", { a: 1 }, {}, null],
  ["list", ["a", 1], {}, null],
  ["number", 7, {}, null],
  ["boolean", true, {}, null],
  ["sequence", rhea.message.sequence_section([1, 2]), {}, null],
  ["text with a type", "grüße", { content_type: "text/plain" }, "grüße"],
];
await new Promise((resolve, reject) => {
  const container = rhea.create_container();
  let sent = 0, accepted = 0;
  container.on("sendable", (context) => {
    while (sent < bodies.length && context.sender.sendable()) {
      const [, body, properties] = bodies[sent];
      context.sender.send({ body, durable: true, message_id: `rhea-${sent}`, ...properties });
      sent += 1;
    }
  });
  container.on("accepted", (context) => {
    const [name, , , value] = bodies[accepted];
    tell("rhea", name, value);
    accepted += 1;
    if (accepted === bodies.length) { context.connection.close(); resolve(); }
  });
  container.on("rejected", (context) => reject(new Error("rejected")));
  container.on("disconnected", (context) => context.error && reject(context.error));
  container.connect({
    host: target.hostname, hostname: `vhost:${vhost}`, port: Number(target.port),
    username: target.username, password: target.password, reconnect: false,
  }).open_sender(`/queues/${queue}`);
});
