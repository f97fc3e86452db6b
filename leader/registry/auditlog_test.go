package registry

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/google/go-cmp/cmp"
)

// TestChangesAreLogged: who asked, what came of it and what it changed, with what
// the leader did of its own among it.
func TestChangesAreLogged(t *testing.T) {
	r, clk := open(t)
	apply := func(ctx context.Context, name string) {
		t.Helper()
		if _, err := r.Apply(ctx, []fleet.Object{fleet.NewObject(name, fleet.Box{Site: "cellar"}), fleet.NewObject(name+"-2", fleet.Box{})}, "ann"); err != nil {
			t.Fatal(err)
		}
		clk.Advance(time.Second)
	}
	apply(t.Context(), "own")
	asked := Asked{Principal: "ann", Role: "operator", Via: "token", Source: "192.0.2.1", Method: "POST", Route: "/api/v1/fleet", Path: "/api/v1/fleet"}
	ctx, err := r.LogAsked(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Second)
	apply(ctx, "box")
	if err := r.LogDone(ctx, 200); err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Second)
	if _, err := r.LogAsked(t.Context(), asked); err != nil { // the leader stops here
		t.Fatal(err)
	}
	all, err := r.Changes(t.Context(), time.Time{}, time.Time{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	both := func(name string) []ObjectChange {
		return []ObjectChange{{Action: "apply", Kind: fleet.KindBox, Name: name + "-2"}, {Action: "apply", Kind: fleet.KindBox, Name: name}}
	}
	for i := range all {
		if (all[i].Hash == "") != (all[i].Seq == 0) {
			t.Errorf("hash %q of entry %d", all[i].Hash, all[i].Seq)
		}
		all[i].Hash = ""
	}
	want := []Logged{
		{Seq: 3, At: noon.Add(4 * time.Second), Asked: asked, Objects: []ObjectChange{}},
		{Seq: 1, At: noon.Add(time.Second), Asked: asked, Status: 200, Objects: both("box")},
		{At: noon, Asked: Asked{Principal: "ann"}, Status: 200, Objects: both("own")},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
	if one, err := r.Changes(t.Context(), time.Time{}, all[0].At, 1); err != nil || len(one) != 1 || one[0].Seq != 1 {
		t.Errorf("the next page: %+v, %v", one, err)
	}
	if one, err := r.Changes(t.Context(), all[0].At, time.Time{}, 9); err != nil || len(one) != 1 || one[0].Seq != 3 {
		t.Errorf("since: %+v, %v", one, err)
	}
}

// logged is a registry with three changes in its log.
func logged(t *testing.T) *Registry {
	t.Helper()
	r, _ := open(t)
	for range 3 {
		ctx, err := r.LogAsked(t.Context(), Asked{Principal: "ann", Method: "POST", Path: "/x"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Apply(ctx, []fleet.Object{fleet.NewObject("box", fleet.Box{Site: requestOf(ctx)})}, "ann"); err != nil {
			t.Fatal(err)
		}
		if err := r.LogDone(ctx, 200); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// TestTheLogsChain: whatever is changed or left out afterwards is seen.
func TestTheLogsChain(t *testing.T) {
	if chain, err := logged(t).VerifyChanges(t.Context()); err != nil || chain.Broken != "" || chain.Entries != 6 || len(chain.Head) != 64 {
		t.Fatalf("%+v, %v", chain, err)
	}
	for _, statement := range []string{
		"UPDATE audit_log SET entry = replace(entry, 'ann', 'bob') WHERE seq = 3",
		"UPDATE audit_log SET at = at + 1 WHERE seq = 2",
		"UPDATE audit_log SET request = 'x' WHERE seq = 2",
		"DELETE FROM audit_log WHERE seq = 4",
		"DELETE FROM audit_log WHERE seq = 1",
		"UPDATE audit_log SET hash = x'00' WHERE seq = 5",
		"UPDATE audit SET by = 'bob' WHERE id = 2",
		"DELETE FROM audit WHERE id = 2",
		"UPDATE audit SET request = '' WHERE id = 2",
	} {
		r := logged(t)
		err := r.write(t.Context(), ordered, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), statement)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.VerifyChanges(t.Context()); err != nil || got.Broken == "" {
			t.Errorf("%s: not seen, %v", statement, err)
		}
	}
}
