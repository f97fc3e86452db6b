package processors

import "testing"

func TestWords(t *testing.T) {
	for r, want := range map[Resource]string{CPUUsed: "CPU used", VolumeClaimed.Of("fast"): "volume claimed (fast)", NetworkReceive.Of("internet"): "network received (internet)",
		Extended("nvidia.com/gpu"): "nvidia.com/gpu", "fee:platform": "", "": ""} {
		if got := r.Words(); got != want {
			t.Errorf("%q is called %q, want %q", r, got, want)
		}
	}
	for _, r := range Resources() {
		if r.Words() == "" {
			t.Errorf("%s has no words", r)
		}
	}
}
