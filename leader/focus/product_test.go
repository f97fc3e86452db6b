package focus

import (
	"testing"

	"github.com/accumulus-metering/accumulus/processors"
)

// TestEveryResourceHasAProduct: what a price list may price can be exported, idle
// that is shared too.
func TestEveryResourceHasAProduct(t *testing.T) {
	for _, r := range append(processors.Resources(), processors.Extended("nvidia.com/gpu"), processors.VolumeUsed.Of("fast")) {
		p, err := productOf(r)
		if err != nil || p.service == "" || p.meter != r.Words() {
			t.Errorf("%s is %+v: %v", r, p, err)
		}
		if err := CheckUnit(p.unit); err != nil {
			t.Errorf("%s: %v", r, err)
		}
	}
	// The control: what nobody prices has none.
	if p, err := productOf("nothing"); err == nil {
		t.Errorf("nothing is %+v", p)
	}
}
