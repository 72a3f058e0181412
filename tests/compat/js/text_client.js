// Sends the lines of a file ("key TAB value") to partition 0 of a topic: KafkaJS's part of the matrix. It reads only as a member
// of a group, so it is no reader here.
const fs = require("fs");
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP };
const BATCH = 500;

async function produce(address, topic, codec, path) {
  const kafka = new Kafka({ brokers: [address], logLevel: logLevel.ERROR });
  const admin = kafka.admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] });
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  const lines = fs.readFileSync(path, "utf8").trimEnd().split("\n");
  for (let at = 0; at < lines.length; at += BATCH) {
    const messages = lines.slice(at, at + BATCH).map((line) => {
      const tab = line.indexOf("\t");
      return { partition: 0, key: line.slice(0, tab), value: line.slice(tab + 1) };
    });
    await producer.send({ topic, compression: CODECS[codec], messages });
  }
  const [{ high }] = await admin.fetchTopicOffsets(topic);
  if (Number(high) !== lines.length) throw new Error(`sent ${lines.length} records, the end offset is ${high}`);
  await producer.disconnect();
  await admin.disconnect();
}

const [, , , address, topic, codec, path] = process.argv;
produce(address, topic, codec, path).catch((error) => {
  console.error(error);
  process.exit(1);
});
