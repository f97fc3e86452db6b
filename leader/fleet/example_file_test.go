package fleet

import (
	"testing"

	"github.com/accumulus-metering/accumulus/deploy"
)

// The example that an operator starts from is a fleet without a fault.
func TestExampleFile(t *testing.T) {
	text, err := deploy.Examples.ReadFile("examples/fleet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(objects, nil); err != nil {
		t.Error(err)
	}
	if len(objects) != len(Kinds) {
		t.Errorf("%d objects, want one of each of the %d kinds", len(objects), len(Kinds))
	}
}
