// Bar 17 with franz-go: fifty members of a group join and die each second; half of them leave, half fall silent. Every record is
// processed, committed offsets never fall, and the group is stable soon after the last death.
//
//	chaos BROKER SECONDS
//
// Prints one line with the figures; exit code 1 if anything was wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	topic, group      = "chaos", "chaos"
	partitions        = 16
	members           = 50
	session           = time.Second
	patience, settled = 60 * time.Second, 5 * time.Second
)

// What all goroutines share.
type crowd struct {
	broker    string
	dying     atomic.Bool
	enough    atomic.Bool
	died      atomic.Int64
	processed [partitions]sync.Map
	produced  [partitions]atomic.Int64
	wrong     sync.Map
}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(broker, seconds string) error {
	length, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	c := &crowd{broker: broker}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ctx := context.Background()
	if _, err := admin.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return err
	}
	var all sync.WaitGroup
	for range members {
		all.Go(func() { c.slot() })
	}
	all.Go(func() { c.watch(admin) })
	if _, err := c.await(admin, patience); err != nil {
		return err
	}
	c.dying.Store(true)
	end := time.Now().Add(time.Duration(length) * time.Second)
	for number := 0; time.Now().Before(end); number++ {
		partition := int32(number % partitions)
		record := &kgo.Record{Topic: topic, Partition: partition, Value: []byte(strconv.Itoa(number))}
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			return err
		}
		c.produced[partition].Add(1)
		time.Sleep(2 * time.Millisecond)
	}
	c.dying.Store(false)
	stable, err := c.await(admin, settled)
	if err != nil {
		return err
	}
	caught, total, err := c.catchUp(admin)
	c.enough.Store(true)
	all.Wait()
	c.wrong.Range(func(what, _ any) bool { err = errors.Join(err, errors.New(what.(string))); return true })
	if deaths := c.died.Load(); deaths < int64(length*members/3) {
		err = errors.Join(err, fmt.Errorf("only %d members died: it proves nothing", deaths))
	}
	fmt.Printf("%d members died in %d s, stable after %.1f s, all %d records processed and committed after %.1f s\n",
		c.died.Load(), length, stable.Seconds(), total, caught.Seconds())
	return err
}

// One member after the other, until it is enough.
func (c *crowd) slot() {
	for !c.enough.Load() {
		c.live(time.Now().Add(time.Duration(300+rand.IntN(1400)) * time.Millisecond))
	}
}

// A member: reads, processes, commits, in this order. One that falls silent loses its connections first.
func (c *crowd) live(until time.Time) {
	var cut atomic.Bool
	var conns sync.Map
	dial := func(ctx context.Context, network, host string) (net.Conn, error) {
		if cut.Load() {
			return nil, net.ErrClosed
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
		if err == nil {
			conns.Store(conn, nil)
		}
		return conn, err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.broker), kgo.Dialer(dial), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.SessionTimeout(session), kgo.HeartbeatInterval(session/5), kgo.RebalanceTimeout(5*time.Second), kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		c.wrong.Store(err.Error(), nil)
		return
	}
	for !c.enough.Load() && !(c.dying.Load() && time.Now().After(until)) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		fetches := client.PollFetches(ctx)
		cancel()
		fetches.EachRecord(func(record *kgo.Record) { c.processed[record.Partition].Store(record.Offset, nil) })
		if fetches.NumRecords() > 0 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			// A refused commit is repeated by whoever has the partition next.
			_ = client.CommitUncommittedOffsets(ctx)
			cancel()
		}
		client.AllowRebalance()
	}
	if c.dying.Load() {
		c.died.Add(1)
		if rand.IntN(2) == 0 {
			cut.Store(true)
			conns.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
			// It would try to leave for a while; its place is taken at once.
			go client.CloseAllowingRebalance()
			return
		}
	}
	client.CloseAllowingRebalance()
}

// Committed offsets, again and again: none may fall.
func (c *crowd) watch(admin *kadm.Client) {
	floor := map[int32]int64{}
	for ; !c.enough.Load(); time.Sleep(20 * time.Millisecond) {
		committed, err := admin.FetchOffsets(context.Background(), group)
		if err != nil {
			continue
		}
		committed.Each(func(one kadm.OffsetResponse) {
			if one.At < floor[one.Partition] {
				c.wrong.Store(fmt.Sprintf("partition %d: committed %d after %d", one.Partition, one.At, floor[one.Partition]), nil)
			}
			floor[one.Partition] = one.At
		})
	}
}

// How long it takes until the group is stable with all its members.
func (c *crowd) await(admin *kadm.Client, within time.Duration) (time.Duration, error) {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		described, err := admin.DescribeGroups(context.Background(), group)
		if err == nil && described[group].State == "Stable" && len(described[group].Members) == members {
			return time.Since(began), nil
		}
		if time.Since(began) > within {
			return 0, fmt.Errorf("after %s the group is %s with %d members (%v)", within, described[group].State, len(described[group].Members), err)
		}
	}
}

// How long it takes until every record is processed and every offset committed, and how many records there are.
func (c *crowd) catchUp(admin *kadm.Client) (time.Duration, int64, error) {
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		committed, err := admin.FetchOffsets(context.Background(), group)
		var behind, total int64
		for partition := range int32(partitions) {
			end := c.produced[partition].Load()
			total += end
			if one, ok := committed.Lookup(topic, partition); end > 0 && (!ok || one.At < end) {
				behind++
			}
			for offset := range end {
				if _, ok := c.processed[partition].Load(offset); !ok {
					behind++
				}
			}
		}
		if err == nil && behind == 0 {
			return time.Since(began), total, nil
		}
		if time.Since(began) > patience {
			return 0, total, fmt.Errorf("%d records or partitions are behind after %s (%v)", behind, patience, err)
		}
	}
}
