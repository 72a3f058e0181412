// KafkaJS's groups, transactions and admin client: groups.js ADDRESS [CASE...]. Prints "PASS name seconds" or "FAIL name seconds reason".
const { AssignerProtocol, ConfigResourceTypes, Kafka, logLevel } = require("kafkajs");

const PATIENCE_MS = 120_000;
const [, , address, ...only] = process.argv;
const kafka = new Kafka({ brokers: [address], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 10 } });
const unique = () => Math.random().toString(36).slice(2, 10);

function same(expected, actual, what) {
  const [one, two] = [JSON.stringify(expected), JSON.stringify(actual)];
  if (one !== two) throw new Error(`${what}: expected ${one}, got ${two}`);
}

async function until(holds, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`never came: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

// One case's topic and group, and whatever it opened.
class Bed {
  constructor() {
    this.topic = `js-${unique()}`;
    this.group = `js-${unique()}`;
    this.open = [];
  }

  async start(partitions) {
    this.admin = kafka.admin();
    await this.admin.connect();
    this.open.push(() => this.admin.disconnect());
    await this.admin.createTopics({ topics: [{ topic: this.topic, numPartitions: partitions }] });
    this.producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
    await this.producer.connect();
    this.open.push(() => this.producer.disconnect());
  }

  fill(partitions, count, first = 0) {
    const messages = Array.from({ length: count }, (_, i) => ({ partition: (first + i) % partitions, value: String(first + i) }));
    return this.producer.send({ topic: this.topic, messages });
  }

  // A member that runs; `seen` has what it read and `owned` its partitions.
  async member(more = {}) {
    const consumer = kafka.consumer({
      groupId: this.group, sessionTimeout: 6000, heartbeatInterval: 300, rebalanceTimeout: 10_000, maxWaitTimeInMs: 100, ...more,
    });
    const member = { consumer, seen: [], owned: [], joins: 0 };
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      member.owned = payload.memberAssignment[this.topic] || [];
      member.joins += 1;
      member.leader = payload.isLeader;
    });
    await consumer.connect();
    await consumer.subscribe({ topics: [this.topic], fromBeginning: true });
    await consumer.run({
      autoCommitInterval: 100,
      eachMessage: async ({ partition, message }) => {
        member.seen.push({ partition, value: Number(message.value), offset: Number(message.offset) });
      },
    });
    member.close = async () => {
      await consumer.stop();
      await consumer.disconnect();
      member.owned = [];
    };
    this.open.push(() => member.close());
    return member;
  }

  // A transactional producer; one whose transaction is open is not closed well, so it is left alone then.
  async transactional(id, more = {}) {
    const producer = kafka.producer({ transactionalId: id, idempotent: true, maxInFlightRequests: 1, ...more });
    await producer.connect();
    this.open.push(() => producer.disconnect());
    return producer;
  }

  // One transaction from begin to end.
  async transaction(producer, values, commit = true) {
    const transaction = await producer.transaction();
    await transaction.send({ topic: this.topic, messages: values.map((value) => ({ partition: 0, value: String(value) })) });
    await (commit ? transaction.commit() : transaction.abort());
  }

  async close() {
    for (const each of this.open.reverse()) await each().catch(() => {});
  }
}

const values = (...members) => members.flatMap((member) => member.seen.map((record) => record.value)).sort((a, b) => a - b);
const upTo = (count) => Array.from({ length: count }, (_, i) => i);

const cases = {
  async aGroupGoesOnWhereItCommitted(bed) {
    await bed.start(2);
    await bed.fill(2, 20);
    const first = await bed.member();
    await until(() => first.seen.length >= 20, "20 records");
    same(upTo(20), values(first), "the records");
    await first.close();
    await bed.fill(2, 6, 20);
    const second = await bed.member();
    await until(() => second.seen.length >= 6, "6 records");
    same([20, 21, 22, 23, 24, 25], values(second), "only what came since");
  },

  async membersShareAndHandOver(bed) {
    await bed.start(4);
    const one = await bed.member();
    await until(() => one.owned.length === 4, "all partitions");
    const two = await bed.member();
    await until(() => one.owned.length === 2 && two.owned.length === 2, "two each");
    same([0, 1, 2, 3], [...one.owned, ...two.owned].sort(), "all partitions");
    await bed.fill(4, 40);
    await until(() => one.seen.length + two.seen.length >= 40, "40 records");
    same(upTo(40), values(one, two), "each record once");
    await one.close();
    await until(() => two.owned.length === 4, "the rest");
  },

  async fiveMembersComeAtOnce(bed) {
    await bed.start(10);
    const members = await Promise.all(upTo(5).map(() => bed.member()));
    await until(() => members.every((member) => member.owned.length === 2), "two each");
    await bed.fill(10, 50);
    await until(() => values(...members).length >= 50, "50 records");
    same(upTo(50), [...new Set(values(...members))], "the records");
  },

  async seekGoesWhereItIsTold(bed) {
    await bed.start(1);
    await bed.fill(1, 10);
    const member = await bed.member();
    await until(() => member.seen.length >= 10, "10 records");
    member.seen.length = 0;
    member.consumer.seek({ topic: bed.topic, partition: 0, offset: "7" });
    await until(() => member.seen.length >= 3, "3 records");
    same([7, 8, 9], values(member), "from offset 7");
  },

  async pauseHoldsBackAndResumeGoesOn(bed) {
    await bed.start(1);
    const member = await bed.member();
    await until(() => member.owned.length === 1, "it");
    member.consumer.pause([{ topic: bed.topic }]);
    await bed.fill(1, 5);
    await new Promise((done) => setTimeout(done, 1000));
    same([], values(member), "nothing while paused");
    member.consumer.resume([{ topic: bed.topic }]);
    await until(() => member.seen.length >= 5, "5 records");
  },

  async adminSeesAndMovesGroups(bed) {
    await bed.start(1);
    await bed.fill(1, 5);
    const member = await bed.member();
    await until(() => member.seen.length >= 5, "5 records");
    const { groups } = await bed.admin.listGroups();
    same(true, groups.some((group) => group.groupId === bed.group && group.protocolType === "consumer"), "it is listed");
    const [described] = (await bed.admin.describeGroups([bed.group])).groups;
    same(["Stable", 1], [described.state, described.members.length], "state and members");
    const assigned = AssignerProtocol.MemberAssignment.decode(described.members[0].memberAssignment).assignment;
    same({ [bed.topic]: [0] }, assigned, "its assignment");
    await member.close();
    const offsets = async () => (await bed.admin.fetchOffsets({ groupId: bed.group, topics: [bed.topic] }))[0].partitions[0].offset;
    same("5", await offsets(), "the committed offset");
    await bed.admin.setOffsets({ groupId: bed.group, topic: bed.topic, partitions: [{ partition: 0, offset: "2" }] });
    same("2", await offsets(), "the offset that was set");
    await bed.admin.resetOffsets({ groupId: bed.group, topic: bed.topic, earliest: true });
    same("-2", await offsets(), "what KafkaJS commits for the first offset");
    await bed.admin.deleteGroups([bed.group]);
    same(false, (await bed.admin.listGroups()).groups.some((group) => group.groupId === bed.group), "it is gone");
  },

  async whatIsCommittedIsRead(bed) {
    await bed.start(1);
    const producer = await bed.transactional(`${bed.topic}-id`);
    await bed.transaction(producer, [1, 2]);
    await bed.transaction(producer, [3, 4], false);
    await bed.transaction(producer, [5]);
    const member = await bed.member();
    await until(() => member.seen.length >= 3, "3 records");
    same([1, 2, 5], values(member), "what was committed");
    same([0, 1, 6], member.seen.map((record) => record.offset), "their offsets");
  },

  async anOpenTransactionHoldsBack(bed) {
    await bed.start(1);
    const [slow, quick] = [await bed.transactional(`${bed.topic}-slow`), await bed.transactional(`${bed.topic}-quick`)];
    const open = await slow.transaction();
    await open.send({ topic: bed.topic, messages: [{ partition: 0, value: "1" }] });
    await bed.transaction(quick, [2]);
    const member = await bed.member();
    await until(() => member.owned.length === 1, "it");
    await new Promise((done) => setTimeout(done, 1000));
    same([], values(member), "nothing while it is open");
    await open.commit();
    await until(() => member.seen.length >= 2, "2 records");
    same([1, 2], member.seen.map((record) => record.value), "in their order");
  },

  async offsetsComeWithTheTransaction(bed) {
    await bed.start(1);
    const producer = await bed.transactional(`${bed.topic}-id`);
    const offset = async () => {
      const [found] = await bed.admin.fetchOffsets({ groupId: bed.group, topics: [bed.topic] });
      return found.partitions[0].offset;
    };
    // It does not ask again where the group is, so the group must be known.
    await until(() => offset().then((found) => found === "-1", () => false), "its coordinator");
    for (const [commit, expected] of [[false, "-1"], [true, "7"]]) {
      const transaction = await producer.transaction();
      await transaction.send({ topic: bed.topic, messages: [{ partition: 0, value: "1" }] });
      await transaction.sendOffsets({ consumerGroupId: bed.group, topics: [{ topic: bed.topic, partitions: [{ partition: 0, offset: "7" }] }] });
      await (commit ? transaction.commit() : transaction.abort());
      await until(async () => (await offset()) === expected, `the offset ${expected}`);
    }
  },

  async aSecondInstanceFencesTheFirst(bed) {
    await bed.start(1);
    const first = await bed.transactional(`${bed.topic}-id`);
    await bed.transaction(first, [1]);
    const open = await first.transaction();
    await open.send({ topic: bed.topic, messages: [{ partition: 0, value: "2" }] });
    const second = await bed.transactional(`${bed.topic}-id`);
    await bed.transaction(second, [3]);
    const error = await open.commit().then(() => null, (error) => error);
    same(true, /epoch|fenced|newer producer/i.test(String(error)), `the commit of the first: ${error}`);
    const member = await bed.member();
    await until(() => member.seen.length >= 2, "2 records");
    same([1, 3], values(member), "read_committed");
  },

  async adminManagesTopicsAndSettings(bed) {
    await bed.start(2);
    same(true, (await bed.admin.listTopics()).includes(bed.topic), "it is listed");
    await bed.admin.createPartitions({ topicPartitions: [{ topic: bed.topic, count: 4 }] });
    const count = async () => (await bed.admin.fetchTopicMetadata({ topics: [bed.topic] })).topics[0].partitions.length;
    await until(async () => (await count()) === 4, "partitions");
    const resource = { type: ConfigResourceTypes.TOPIC, name: bed.topic };
    await bed.admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: "retention.ms", value: "7654321" }] }] });
    await until(async () => {
      const { resources } = await bed.admin.describeConfigs({ resources: [{ ...resource, configNames: ["retention.ms"] }] });
      return resources[0].configEntries[0].configValue === "7654321";
    }, "the setting");
    await bed.fill(4, 8);
    await bed.admin.deleteTopicRecords({ topic: bed.topic, partitions: [{ partition: 0, offset: "1" }] });
    const low = (await bed.admin.fetchTopicOffsets(bed.topic)).find((each) => each.partition === 0).low;
    same("1", low, "the first offset");
    same(1, (await bed.admin.describeCluster()).brokers.length, "brokers");
    await bed.admin.deleteTopics({ topics: [bed.topic] });
    await until(async () => !(await bed.admin.listTopics()).includes(bed.topic), "it is gone");
  },
};

async function run(name) {
  const began = Date.now();
  const bed = new Bed();
  let wrong = "";
  try {
    await cases[name](bed);
  } catch (error) {
    wrong = ` ${String(error.stack || error).split("\n").slice(0, 4).join(" | ")}`;
  }
  await bed.close();
  console.log(`${wrong ? "FAIL" : "PASS"} ${name} ${((Date.now() - began) / 1000).toFixed(1)}${wrong}`);
}

console.log(`VERSION ${require("kafkajs/package.json").version}`);
Promise.all(Object.keys(cases).filter((name) => !only.length || only.includes(name)).map(run)).then(() => process.exit(0));
