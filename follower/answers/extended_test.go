package answers

import (
	"fmt"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/google/go-cmp/cmp"
)

// tell stores a row of a pod in the table object.
func tell(t *testing.T, server *influxsync.Server, namespace, name string, at, ended time.Time, spec string) {
	t.Helper()
	end := int64(0)
	if !ended.IsZero() {
		end = ended.UnixNano()
	}
	row := influxsync.NewPoint(schema.Object.Name, map[string]string{schema.Cluster: "edge", schema.Kind: "Pod", schema.Namespace: namespace, "name": name, "uid": "uid-" + name},
		map[string]influxsync.Value{"spec": influxsync.Str(spec), "reason": influxsync.Str("r"), "valid_from": influxsync.Int(at.UnixNano()), "valid_to": influxsync.Int(end)}, at)
	if err := server.Database(schema.FactsDB).Write(t.Context(), []influxsync.Point{row}); err != nil {
		t.Fatal(err)
	}
}

// A pod's devices count from its first container to its end, with each request
// while it held, up to the last settled minute, for who may see its namespace; by
// step and label too. What is remembered of the days before changes nothing, and is
// read again when their revision says so.
func TestExtendedResources(t *testing.T) {
	server := openStore(t)
	at := func(minute int) time.Time { return monday.Add(time.Duration(minute) * time.Minute) }
	stamp := func(minute int) string { return at(minute).Format(time.RFC3339) }
	gpus := func(n int) string {
		return fmt.Sprintf(`[{"name":"c","extended":{"nvidia.com/gpu":%d,"ephemeral-storage":1073741824}},{"name":"i","init":true,"extended":{"nvidia.com/gpu":9}}]`, n)
	}
	head := `{"node":"n1","workloadKind":"Job","workload":"train","labels":{"team":"red"},`
	tell(t, server, "shop", "resized", at(10), time.Time{}, head+`"start":"`+stamp(10)+`","containers":`+gpus(1)+`}`)
	tell(t, server, "shop", "resized", at(20), time.Time{}, head+`"start":"`+stamp(10)+`","containers":`+gpus(4)+`,"past":[{"until":"`+stamp(20)+`","containers":`+gpus(1)+`}]}`)
	tell(t, server, "blog", "ended", at(0), time.Time{}, head+`"start":"`+stamp(0)+`","containers":`+gpus(2)+`}`)
	tell(t, server, "blog", "ended", at(50), at(5), head+`"start":"`+stamp(0)+`","end":"`+stamp(5)+`","containers":`+gpus(2)+`}`) // told of late
	tell(t, server, "shop", "waits", at(0), time.Time{}, head+`"containers":`+gpus(8)+`}`)
	tell(t, server, "shop", "plain", at(0), time.Time{}, head+`"start":"`+stamp(0)+`","containers":[{"name":"c"}]}`)
	put(t, server, at(0), "shop", 1)
	put(t, server, at(0), "blog", 1)
	settled := func() time.Time { return at(60) }
	clk := clock.NewManual(at(61))
	plain := New(Config{Cluster: "edge"}, server, Plain{}, settled, nil, clk)
	ask := func(e *Engine, sight Sight, from, to int) map[string]string {
		t.Helper()
		answer, err := e.Usage(t.Context(), usage.Request{Window: at(from).Format(time.RFC3339) + "," + at(to).Format(time.RFC3339), Aggregate: []usage.Key{usage.Pod}}, sight)
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string]string)
		for _, row := range answer.Rows {
			for name, quantity := range row.Extended {
				all[row.Key["pod"]+" "+name] = quantity.String()
			}
		}
		return all
	}
	expect := func(what string, got, want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	bytes := func(seconds int64) string { return fmt.Sprint(seconds << 30) }
	resized := map[string]string{"resized nvidia.com/gpu": "3000", "resized ephemeral-storage": bytes(1200)}
	whole := map[string]string{"ended nvidia.com/gpu": "600", "ended ephemeral-storage": bytes(300)}
	for name, quantity := range resized {
		whole[name] = quantity
	}
	expect("half an hour", ask(plain, Everything{}, 0, 30), whole)
	expect("one namespace", ask(plain, few{"shop"}, 0, 30), resized)
	expect("beyond the last settled minute", ask(plain, Everything{}, 30, 90), map[string]string{"resized nvidia.com/gpu": "7200", "resized ephemeral-storage": bytes(1800)})
	answer, err := plain.Usage(t.Context(), usage.Request{Window: stamp(3) + "," + stamp(47), Step: 5 * time.Minute, Aggregate: []usage.Key{usage.Label("team"), usage.Workload}}, Everything{})
	if err != nil {
		t.Fatal(err)
	}
	var sum usage.Exact
	for _, row := range answer.Rows {
		if q, ok := row.Extended["nvidia.com/gpu"]; ok {
			if row.Key["label:team"] != "red" || row.Key["workload"] != "Job/train" {
				t.Errorf("whose: %v", row.Key)
			}
			sum = sum.Plus(q)
		}
	}
	if want := usage.Whole(2*120 + 600 + 4*27*60); sum.Cmp(want) != 0 {
		t.Errorf("steps add up to %s, want %s", sum, want)
	}

	clk.Set(at(3 * 24 * 60))
	revisions := counted{}
	remembering := New(Config{Cluster: "edge"}, server, Plain{}, settled, revisions, clk)
	for _, when := range []string{"read", "remembered"} {
		expect(when, ask(remembering, Everything{}, 0, 30), whole)
	}
	tell(t, server, "blog", "late", at(55), at(1), head+`"start":"`+stamp(0)+`","end":"`+stamp(1)+`","containers":`+gpus(1)+`}`)
	expect("control: the days are remembered", ask(remembering, Everything{}, 0, 30), whole)
	revisions["facts/object/"+monday.Format("02")]++
	whole["late nvidia.com/gpu"], whole["late ephemeral-storage"] = "60", bytes(60)
	expect("after the day's revision", ask(remembering, Everything{}, 0, 30), whole)
}
