package host

import "testing"

func TestLegible(t *testing.T) {
	for path, want := range map[string]string{
		"/system.slice/ssh.service": "/system.slice/ssh.service",
		"/a\nb":                     "/a%0Ab",
		`/dev-disk\x2d1.mount`:      "/dev-disk%5Cx2d1.mount",
		"/ends\\":                   "/ends%5C",
		"/100%":                     "/100%25",
		"/\xff\xfe":                 "/%FF%FE",
		"/grüße":                    "/grüße",
	} {
		if got := legible(path); got != want {
			t.Errorf("legible(%q) = %q, want %q", path, got, want)
		}
	}
}
