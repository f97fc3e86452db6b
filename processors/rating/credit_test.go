package rating

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/processors"
	"github.com/cockroachdb/apd/v3"
	"github.com/google/go-cmp/cmp"
)

func TestDiedWith(t *testing.T) {
	at := october.From.Add(36 * time.Hour)
	f := Failure{Cluster: "c", Node: "n1", At: at}
	run := func(uid string, start, end time.Duration) Run {
		r := Run{Cluster: "c", Node: "n1", Namespace: "ns", UID: uid, Start: at.Add(start)}
		if end != 0 {
			r.End = at.Add(end)
		}
		return r
	}
	done, elsewhere := run("done", -time.Hour, time.Second), run("elsewhere", -time.Hour, 0)
	done.Succeeded, elsewhere.Node = true, "n2"
	died := DiedWith(f, []Run{run("evicted", -time.Hour, 6*time.Minute), run("unseen", -time.Hour, 0), run("before", -time.Hour, -time.Second),
		run("after", time.Second, time.Minute), run("ran on", -time.Hour, time.Hour), done, elsewhere})
	var got []string
	for _, r := range died {
		got = append(got, r.UID)
	}
	if diff := cmp.Diff([]string{"evicted", "unseen"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefundFailure(t *testing.T) {
	steps := []Tier{{UpTo: dec("100"), Price: dec("0.10")}, {Price: dec("0.05")}}
	use := func(key string, hours int64) Usage {
		return Usage{Key: key, Quantities: processors.Quantities{processors.CPUUsed: hours * coreHour, processors.MemoryMax: hours * gibHour}}
	}
	failure := Failure{Cluster: "c", Node: "n1", At: october.From.Add(time.Hour)}
	for kind, want := range map[TierKind][]string{
		// 150 hours cost 100·0.10 + 50·0.05; 60 lost ones are the upper 50 and 10 of the first tier.
		Graduated: {"cpu_used tier 1 -1.00", "cpu_used tier 2 -2.50", "memory_max tier 0 -0.60"},
		// 150 hours reach the second tier, whose price counts though 90 do not.
		Volume: {"cpu_used tier 2 -3.00", "memory_max tier 0 -0.60"},
	} {
		plan := compiled(t, euros(Rate{Resource: processors.CPUUsed, Tiers: &Tiers{Kind: kind, Steps: steps}}, Rate{Resource: processors.MemoryMax, Price: dec("0.01"), Cost: dec("0.005")}), "", nil)
		in := Input{Period: october, Usage: []Usage{use("a", 90), use("b", 60)}}
		credit, err := plan.RefundFailure(failure, in, []Usage{use("b", 60)})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range credit.Lines {
			got = append(got, l.Rate+" tier "+string(rune('0'+l.Tier))+" "+l.ContractedCost.Text('f'))
			shares, err := Total(sharesAsLines(l))
			if err != nil || shares.Cmp(&l.ContractedCost) != 0 || !l.Credit() || l.OperatorCost != nil {
				t.Errorf("%s: shares %s of %s", l.Rate, shares.Text('f'), l.ContractedCost.Text('f'))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", kind, diff)
		}
		if !strings.Contains(credit.Reason, "node n1 of cluster c failed at 2026-10-01T01:00:00Z") || credit.By != RuleFailedNode {
			t.Errorf("credit %q by %q", credit.Reason, credit.By)
		}
		for _, wrong := range []Usage{use("b", 61), use("c", 1), use("b", -1), {Key: "a", Quantities: processors.Quantities{processors.MemoryMax: 91 * gibHour}}} {
			if _, err := plan.RefundFailure(failure, in, []Usage{wrong}); !errors.Is(err, processors.ErrInput) {
				t.Errorf("refund of what was not used: %v", err)
			}
		}
	}
}

func sharesAsLines(l Line) []Line {
	lines := make([]Line, len(l.Shares))
	for i, s := range l.Shares {
		lines[i] = Line{Currency: l.Currency, ContractedCost: s.ContractedCost}
	}
	return lines
}

func TestRefundByHand(t *testing.T) {
	credit, err := RefundByHand(*dec("12.5"), "EUR", "outage of 3 November", "anna", "ben")
	if err != nil || credit.Lines[0].ContractedCost.Text('f') != "-12.50" || credit.Approver != "ben" {
		t.Errorf("got %v, %v", credit, err)
	}
	for want, give := range map[string]struct {
		amount                           *apd.Decimal
		currency, reason, by, approvedBy string
	}{
		"cannot approve": {dec("1"), "EUR", "x", "anna", "anna"}, "no reason": {dec("1"), "EUR", " ", "anna", "ben"},
		"who approves": {dec("1"), "EUR", "x", "anna", ""}, "amount is 0": {dec("0"), "EUR", "x", "anna", "ben"},
		"negative": {dec("-1"), "EUR", "x", "anna", "ben"}, "decimals": {dec("0.001"), "EUR", "x", "anna", "ben"}, "ISO 4217": {dec("1"), "euro", "x", "anna", "ben"},
	} {
		if _, err := RefundByHand(*give.amount, give.currency, give.reason, give.by, give.approvedBy); !errors.Is(err, processors.ErrInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

// The parts and what is left are the amount, by the policies of energy.
func TestDistribute(t *testing.T) {
	carriers := []Carrier{{Key: "b", Alive: 1, Requests: 30, Used: 0}, {Key: "a", Alive: 2, Requests: 20, Used: 7}, {Key: "ingress", Alive: 5, Requests: 50, Used: 9}}
	for _, at := range []struct {
		policy   processors.IdlePolicy
		pool     Pool
		want     []Carried
		wantLeft int64
	}{
		{processors.IdleEqual, Pool{Amount: 1000}, []Carried{{"a", 250}, {"b", 125}, {"ingress", 625}}, 0},
		{processors.IdleEqual, Pool{Amount: 1000, Shared: []string{"ingress"}}, []Carried{{"a", 667}, {"b", 333}}, 0},
		{processors.IdleRequests, Pool{Amount: 1000, Capacity: 200}, []Carried{{"a", 100}, {"b", 150}, {"ingress", 250}}, 500},
		{processors.IdleUsage, Pool{Amount: -100, Shared: []string{"ingress"}}, []Carried{{"a", -100}, {"b", 0}}, 0},
		{processors.IdleNone, Pool{Amount: 7}, nil, 7},
	} {
		got, left, err := Distribute(at.policy, at.pool, carriers)
		if err != nil || left != at.wantLeft || !cmp.Equal(at.want, got) {
			t.Errorf("%s of %+v: got %v, %d, %v", at.policy, at.pool, got, left, err)
		}
	}
	for _, wrong := range []func() error{
		func() error { _, _, err := Distribute("most", Pool{}, nil); return err },
		func() error { _, _, err := Distribute("equal", Pool{}, append(carriers, carriers[0])); return err },
	} {
		if err := wrong(); !errors.Is(err, processors.ErrInput) {
			t.Errorf("got %v", err)
		}
	}
}

// TestRefundsAddUp: what is given back for several failures is what their usage
// together is given back for, whatever the tiers, and no more than all cost.
func TestRefundsAddUp(t *testing.T) {
	random, apart := rand.New(rand.NewPCG(11, 4)), 0
	for range 50 {
		kind := []TierKind{Graduated, Volume}[random.IntN(2)]
		plan := compiled(t, euros(Rate{Resource: processors.CPUUsed, Tiers: &Tiers{Kind: kind, Steps: []Tier{{UpTo: dec("100"), Price: dec("0.103")}, {UpTo: dec("200"), Price: dec("0.071")}, {Price: dec("0.049")}}}},
			Rate{Resource: processors.MemoryMax, Price: dec("0.0137")}), "", nil)
		in, losses, all := Input{Period: october}, []Loss{}, []Usage{}
		for i := range 6 {
			u := Usage{Key: string(rune('a' + i%3)), Quantities: processors.Quantities{processors.CPUUsed: random.Int64N(80 * coreHour), processors.MemoryMax: random.Int64N(80 * gibHour)}}
			in.Usage = append(in.Usage, u)
			if random.IntN(2) == 0 {
				losses, all = append(losses, Loss{Failure{Node: "n"}, []Usage{u}}), append(all, u)
			}
		}
		credits, err := plan.RefundFailures(in, losses)
		if err != nil {
			t.Fatal(err)
		}
		together, err := plan.RefundFailure(Failure{}, in, all)
		if err != nil {
			t.Fatal(err)
		}
		var lines []Line
		for _, c := range credits {
			lines = append(lines, c.Lines...)
		}
		got, err := Total(lines)
		want, err2 := Total(together.Lines)
		if err != nil || err2 != nil || got.Cmp(&want) != 0 {
			t.Errorf("%s: %d failures give back %s, together %s", kind, len(losses), got.Text('f'), want.Text('f'))
		}
		// Control: each by itself, of the whole usage, gives back another sum of graduated
		// tiers.
		if kind == Graduated {
			apart += differs(t, plan, in, losses, want)
		}
	}
	if apart == 0 {
		t.Error("the control agrees: the test sees nothing")
	}
}

// differs is 1 where losses that know nothing of each other come to another sum.
func differs(t *testing.T, plan *Plan, in Input, losses []Loss, want apd.Decimal) int {
	var lines []Line
	for _, loss := range losses {
		credit, err := plan.RefundFailure(loss.Failure, in, loss.Usage)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, credit.Lines...)
	}
	got, err := Total(lines)
	if err != nil {
		t.Fatal(err)
	}
	return min(1, max(got.Cmp(&want), -got.Cmp(&want)))
}
